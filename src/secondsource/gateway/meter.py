"""The meter: what the hot path counts, as plain integers, to be rendered when somebody asks.

Every event costs one dictionary look-up and a few additions: no locks, no floats, no text. Labels come from the
fleet file only; whatever else a client names is counted as "", so the number of series is bounded. It is to be
used from the event loop's thread; another thread may read the counts while they change.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence

from secondsource.core.records import Kind, Outcome, Reserved, Settled
from secondsource.policy.first_token import RATIO_BOUNDS, SHORTEST_S

OPERATIONS = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
    "/v1/images/generations": "image_generation",
}

# The bounds are those that OpenTelemetry's semantic conventions for generative AI ask for.
SECOND_NS = 1_000_000_000
MILLISECOND_NS = 1_000_000
DURATION_BOUNDS_NS = tuple(10 * MILLISECOND_NS * 2**power for power in range(14))
FIRST_TOKEN_BOUNDS_NS = tuple(
    milliseconds * MILLISECOND_NS
    for milliseconds in (1, 5, 10, 20, 40, 60, 80, 100, 250, 500, 750, 1000, 2500, 5000, 7500, 10000)
)
PER_TOKEN_BOUNDS_NS = tuple(
    milliseconds * MILLISECOND_NS for milliseconds in (10, 25, 50, 75, 100, 150, 200, 300, 400, 500, 750, 1000, 2500)
)
TOKEN_BOUNDS = tuple(4**power for power in range(14))
PREDICTION_BOUNDS_PERCENT = tuple(round(100 * ratio) for ratio in RATIO_BOUNDS)  # predicted, of what it was
MOST_PERCENT = 10_000


class Histogram:
    """Counts by bucket; `counts` has one more entry than `bounds`, for what is above the last."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[int]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0

    def observe(self, value: int) -> None:
        """Count one value; a bound belongs to the bucket below it."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


def _durations() -> Histogram:
    return Histogram(DURATION_BOUNDS_NS)


def _predictions() -> Histogram:
    return Histogram(PREDICTION_BOUNDS_PERCENT)


class RouteCounts:
    """What happened to requests of one endpoint, model and lane."""

    __slots__ = ("durations", "ended", "first_token", "per_token", "started", "tokens_out")

    def __init__(self) -> None:
        self.started = 0
        self.ended = 0
        self.tokens_out = 0
        self.durations: defaultdict[int, Histogram] = defaultdict(_durations)  # by status
        self.first_token = Histogram(FIRST_TOKEN_BOUNDS_NS)
        self.per_token = Histogram(PER_TOKEN_BOUNDS_NS)


class AttemptCounts:
    """What happened to attempts of one endpoint at one pool."""

    __slots__ = ("chip", "durations", "kinds", "model", "supplier", "tokens_cached", "tokens_in", "tokens_out")

    def __init__(self, supplier: str, chip: str, model: str) -> None:
        self.supplier = supplier
        self.chip = chip
        self.model = model
        self.kinds: defaultdict[tuple[Kind, Outcome], int] = defaultdict(int)
        self.durations: defaultdict[Outcome, Histogram] = defaultdict(_durations)
        self.tokens_in = Histogram(TOKEN_BOUNDS)
        self.tokens_out = Histogram(TOKEN_BOUNDS)
        self.tokens_cached = 0


class Spend:
    """Nano-dollars that attempts for one tenant at one supplier cost, and what of it the tenant bears."""

    __slots__ = ("cost", "tenants_part")

    def __init__(self) -> None:
        self.cost = 0
        self.tenants_part = 0


class Meter:
    """All counts of one gateway process since it started."""

    def __init__(self, models: Sequence[str], lanes: Sequence[str]) -> None:
        self.routes: dict[tuple[str, str, str], RouteCounts] = {}
        self.attempts: dict[tuple[str, str], AttemptCounts] = {}
        self.spends: defaultdict[tuple[str, str], Spend] = defaultdict(Spend)
        self.log_lines_dropped = 0
        self.refusals: defaultdict[tuple[str, int], int] = defaultdict(int)
        self.refused: defaultdict[tuple[str, str], int] = defaultdict(int)  # by lane and reason
        self.predictions: defaultdict[str, Histogram] = defaultdict(_predictions)  # by lane
        self.cap_breaches: defaultdict[str, int] = defaultdict(int)  # by supplier
        self.image_requests: defaultdict[str, int] = defaultdict(int)  # by what they came to
        self._models = frozenset(models)
        self._lanes = frozenset(lanes)

    def know(self, models: Sequence[str], lanes: Sequence[str]) -> None:
        """Count under these names too."""
        self._models |= frozenset(models)
        self._lanes |= frozenset(lanes)

    def request_started(self, endpoint: str, model: str, lane: str) -> None:
        """Count a request that was accepted."""
        self._route(endpoint, model, lane).started += 1

    def request_ended(
        self,
        endpoint: str,
        model: str,
        lane: str,
        status: int,
        duration_ns: int,
        first_token_ns: int,
        tokens_out: int,
    ) -> None:
        """Count a request's end: 499 when the client left, 5xx when its stream was broken off.

        `first_token_ns` is since the request came, and 0 when there was no token or no stream.
        """
        route = self._route(endpoint, model, lane)
        route.ended += 1
        route.tokens_out += tokens_out
        route.durations[status].observe(duration_ns)
        if first_token_ns and status < 400:
            route.first_token.observe(first_token_ns)
            if tokens_out > 1:
                route.per_token.observe((duration_ns - first_token_ns) // (tokens_out - 1))

    def request_refused(self, lane: str, status: int) -> None:
        """Count a request that was refused before it was started: a wrong key, a bad body, a full lane."""
        self.refusals[lane if lane in self._lanes else "", status] += 1

    def first_token_predicted(self, lane: str, predicted_s: float, actual_s: float) -> None:
        """Count how far the time to the first token was from what was predicted when the request came."""
        ratio = 100.0 * predicted_s / max(actual_s, SHORTEST_S)
        self.predictions[lane].observe(min(round(ratio), MOST_PERCENT))

    def attempt_ended(self, reserved: Reserved, settled: Settled) -> None:
        """Count an attempt."""
        counts = self.attempts.get((reserved.pool, reserved.endpoint))
        if counts is None:
            counts = AttemptCounts(reserved.supplier, reserved.chip, reserved.model)
            self.attempts[reserved.pool, reserved.endpoint] = counts
        counts.kinds[reserved.kind, settled.outcome] += 1
        counts.durations[settled.outcome].observe(settled.duration_ns)
        if settled.tokens_in or settled.tokens_out:
            counts.tokens_in.observe(settled.tokens_in)
            counts.tokens_out.observe(settled.tokens_out)
            counts.tokens_cached += settled.tokens_cached
        spend = self.spends[reserved.tenant, reserved.supplier]
        spend.cost += settled.cost_nano_usd
        spend.tenants_part += settled.tenant_nano_usd

    def _route(self, endpoint: str, model: str, lane: str) -> RouteCounts:
        route = self.routes.get((endpoint, model, lane))
        if route is None:
            key = (
                endpoint if endpoint in OPERATIONS else "",
                model if model in self._models else "",
                lane if lane in self._lanes else "",
            )
            route = self.routes.get(key)
            if route is None:
                route = self.routes[key] = RouteCounts()
        return route
