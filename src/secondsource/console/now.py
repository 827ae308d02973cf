"""The page Now: what the gateway shows of itself this moment, beside the last minute of its request log."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from secondsource.console.answers import ChipNow, FlowNow, LaneNow, LaneSeries, Now, PoolNow, Series, SupplierNow
from secondsource.console.quantiles import merged, quantile_s
from secondsource.console.window import BIN_S, Bin, LaneBin, Made, Window
from secondsource.core.fleet import Fleet, Lane, Pool
from secondsource.core.money import NANO_USD
from secondsource.gateway.admin.application import Shown
from secondsource.policy.circuit import CircuitState
from secondsource.policy.views import FlowView, LaneView, ReplicaView, SupplierView

RECENT_BINS = 13  # a minute, and the bin that has just begun
MOST_INCIDENTS = 30
HOUR_S = 3600
MILLION = 1_000_000
NO_QUANTILES = LaneBin().quantiles()


def look(shown: Shown, window: Window) -> Now:
    """Return everything the page shows."""
    bins = window.bins()
    recent, flows = _Recent(shown.fleet, bins), shown.flows()
    views = shown.replicas()
    rents = {pool.name: _nano_usd_per_hour(pool, recent) for pool in shown.fleet.pools}
    waiting = _waiting(shown.lanes(), flows)
    lanes = [_lane(lane, recent, flows, waiting[lane.name]) for lane in shown.fleet.lanes]
    pools = [_pool(pool, recent, views, rents[pool.name]) for pool in shown.fleet.pools]
    tokens_per_s, nano_usd_per_hour = sum(pool.tokens_per_s for pool in pools), sum(rents.values())
    good, asked = (sum(values) for values in ([lane.good_per_s for lane in lanes], _asked(lanes)))
    return Now(
        at=datetime.now(UTC),
        running=sum(flow.requests for flow in flows if flow.pool is not None),
        waiting=sum(waiting.values()),
        requests_per_s=sum(lane.requests_per_s for lane in lanes),
        tokens_per_s=tokens_per_s,
        refused_per_s=sum(lane.refused_per_s for lane in lanes),
        goodput=good / asked if asked else None,
        usd_per_hour=nano_usd_per_hour / NANO_USD,
        usd_per_million=_per_million(nano_usd_per_hour, tokens_per_s),
        lanes=lanes,
        flows=_flows(shown.fleet, recent, flows),
        pools=pools,
        suppliers=_suppliers(shown.fleet, pools, recent, shown.suppliers()),
        chips=_chips(pools, recent, rents),
        incidents=window.incidents.newest(MOST_INCIDENTS),
        series=_series(shown.fleet, bins[:-1]),  # the newest bin is not over
    )


class _Recent:
    """The last minute, added up."""

    def __init__(self, fleet: Fleet, bins: Sequence[Bin]) -> None:
        self.bins = bins[-RECENT_BINS:]
        self.seconds = (len(self.bins) - 1) * BIN_S + 2.5  # the bin that has begun is half over, on the average
        self.made: dict[tuple[str, str], Made] = {}
        self.pools = {pool.name: pool for pool in fleet.pools}
        for one in self.bins:
            for key, made in list(one.made.items()):
                total = self.made.setdefault(key, Made())
                total.attempts += made.attempts
                total.failed += made.failed
                total.tokens_out += made.tokens_out
                total.cost_nano_usd += made.cost_nano_usd

    def lane(self, name: str) -> list[LaneBin]:
        return [one.lanes[name] for one in self.bins if name in one.lanes]

    def rate(self, count: int) -> float:
        return round(count / self.seconds, 3)

    def of_pool(self, name: str) -> list[Made]:
        return [made for (_, pool), made in self.made.items() if pool == name]


def _asked(lanes: Sequence[LaneNow]) -> list[float]:
    return [lane.requests_per_s + lane.refused_per_s for lane in lanes]


def _waiting(lanes: Sequence[LaneView], flows: Sequence[FlowView]) -> Counter[str]:
    """Return how many requests of each lane wait: for a place, or between two attempts."""
    waiting = Counter({flow.lane: flow.requests for flow in flows if flow.pool is None})
    queued: Counter[str] = Counter()
    for lane in lanes:
        queued[lane.lane] += lane.waiting
    return waiting | queued  # the larger: who waits for a place may be counted in both


def _lane(lane: Lane, recent: _Recent, flows: Sequence[FlowView], waiting: int) -> LaneNow:
    bins = recent.lane(lane.name)
    first_token, per_token = merged(one.first_token for one in bins), merged(one.per_token for one in bins)
    asked = sum(one.requests + one.refused for one in bins)
    good = sum(one.good for one in bins)
    return LaneNow(
        name=lane.name,
        running=sum(flow.requests for flow in flows if flow.lane == lane.name and flow.pool is not None),
        waiting=waiting,
        requests_per_s=recent.rate(sum(one.requests for one in bins)),
        refused_per_s=recent.rate(sum(one.refused for one in bins)),
        tokens_per_s=recent.rate(sum(one.tokens_out for one in bins)),
        good_per_s=recent.rate(good),
        goodput=good / asked if asked else None,
        ttft_s_p50=quantile_s(first_token, 0.5),
        ttft_s_p99=quantile_s(first_token, 0.99),
        ttft_s_slo=lane.ttft_s,
        tpot_s_p50=quantile_s(per_token, 0.5),
        tpot_s_p99=quantile_s(per_token, 0.99),
        tpot_s_slo=lane.tpot_s,
    )


def _flows(fleet: Fleet, recent: _Recent, flows: Sequence[FlowView]) -> list[FlowNow]:
    running = {(flow.lane, flow.pool): flow.requests for flow in flows if flow.pool is not None}
    lanes = {lane.name: place for place, lane in enumerate(fleet.lanes)}
    found = []
    for lane, pool in sorted(running.keys() | recent.made.keys(), key=lambda key: (lanes.get(key[0], 0), str(key[1]))):
        made = recent.made.get((lane, pool or ""), Made())
        place = recent.pools.get(pool or "")
        if place is not None:
            found.append(
                FlowNow(
                    lane=lane or "(none)",
                    pool=place.name,
                    supplier=place.supplier,
                    chip=place.chip,
                    attempts=made.attempts,
                    running=running.get((lane, pool), 0),
                    tokens_per_s=recent.rate(made.tokens_out),
                )
            )
    return found


def _nano_usd_per_hour(pool: Pool, recent: _Recent) -> int:
    """Return the pool's rent, or, where nothing is rented, what its attempts cost at the rate of the last minute."""
    rent = len(pool.replicas) * pool.price.nano_usd_per_replica_hour
    return rent or round(sum(one.cost_nano_usd for one in recent.of_pool(pool.name)) * HOUR_S / recent.seconds)


def _pool(pool: Pool, recent: _Recent, views: Sequence[ReplicaView], nano_usd_per_hour: int) -> PoolNow:
    replicas = [view for view in views if view.pool == pool.name]
    made = recent.of_pool(pool.name)
    bounded = [view.limit for view in replicas if view.limit is not None]
    reported = [view.reported_waiting for view in replicas if view.reported_waiting is not None]
    circuits = Counter(view.circuit.value for view in replicas)
    return PoolNow(
        name=pool.name,
        supplier=pool.supplier,
        chip=pool.chip,
        model=pool.model,
        replicas=len(replicas),
        up=sum(view.circuit is not CircuitState.OPEN for view in replicas),
        circuits=dict(circuits),
        in_flight=sum(view.in_flight for view in replicas),
        limit=sum(bounded) if len(bounded) == len(replicas) else None,
        waiting=sum(reported) if reported else None,
        at_par=all(view.at_par for view in replicas),
        plugged=all(view.plugged for view in replicas),
        continuation=replicas[0].continuation.value if replicas else pool.continuation.value,
        tokens_per_s=recent.rate(sum(one.tokens_out for one in made)),
        failed_per_min=sum(one.failed for one in made),
        usd_per_hour=nano_usd_per_hour / NANO_USD,
    )


def _suppliers(
    fleet: Fleet, pools: Sequence[PoolNow], recent: _Recent, views: Sequence[SupplierView]
) -> list[SupplierNow]:
    known = {view.supplier: view for view in views}
    cost = {pool.name: sum(made.cost_nano_usd for made in recent.of_pool(pool.name)) for pool in pools}
    tokens = {pool.name: pool.tokens_per_s for pool in pools}
    weights: dict[str, float] = {**cost} if sum(cost.values()) else tokens
    total = sum(weights.values())
    found = []
    for supplier in fleet.suppliers:
        own, view = [pool for pool in pools if pool.supplier == supplier.name], known.get(supplier.name)
        share = None if view is None else view.share
        if share is None and total:
            share = sum(weights[pool.name] for pool in own) / total
        found.append(
            SupplierNow(
                name=supplier.name,
                plugged=all(pool.plugged for pool in own),
                in_flight=sum(pool.in_flight for pool in own),
                share=share,
                max_share=supplier.max_share,
                capped=view is not None and view.capped,
                tokens_per_s=sum(pool.tokens_per_s for pool in own),
            )
        )
    return found


def _chips(pools: Sequence[PoolNow], recent: _Recent, rents: Mapping[str, int]) -> list[ChipNow]:
    found = []
    for chip in dict.fromkeys(pool.chip for pool in pools):
        own = [pool for pool in pools if pool.chip == chip]
        made = [one for pool in own for one in recent.of_pool(pool.name)]
        tokens = sum(one.tokens_out for one in made)
        cost = sum(one.cost_nano_usd for one in made)
        nano_usd_per_hour = sum(rents[pool.name] for pool in own)
        tokens_per_s = sum(pool.tokens_per_s for pool in own)
        found.append(
            ChipNow(
                chip=chip,
                usd_per_hour=nano_usd_per_hour / NANO_USD,
                tokens_per_s=tokens_per_s,
                marginal_usd_per_million=cost * MILLION / tokens / NANO_USD if tokens else None,
                loaded_usd_per_million=_per_million(nano_usd_per_hour, tokens_per_s),
            )
        )
    return found


def _per_million(nano_usd_per_hour: int, tokens_per_s: float) -> float | None:
    return nano_usd_per_hour * MILLION / (tokens_per_s * HOUR_S) / NANO_USD if tokens_per_s else None


def _series(fleet: Fleet, bins: Sequence[Bin]) -> Series:
    suppliers = {pool.name: pool.supplier for pool in fleet.pools}
    tokens = {supplier.name: [0.0] * len(bins) for supplier in fleet.suppliers}
    for place, one in enumerate(bins):
        for (_, pool), made in list(one.made.items()):
            if pool in suppliers:
                tokens[suppliers[pool]][place] += made.tokens_out / BIN_S
    lanes = {}
    for lane in fleet.lanes:
        found = [one.lanes[lane.name].quantiles() if lane.name in one.lanes else NO_QUANTILES for one in bins]
        lanes[lane.name] = LaneSeries(
            ttft_s_p50=[one.ttft_s_p50 for one in found],
            ttft_s_p99=[one.ttft_s_p99 for one in found],
            tpot_s_p50=[one.tpot_s_p50 for one in found],
        )
    return Series(
        at=[one.number * BIN_S * 1000 for one in bins],
        lanes=lanes,
        tokens_per_s=tokens,
        refused=[sum(lane.refused for lane in list(one.lanes.values())) for one in bins],
        failed=[sum(made.failed for made in list(one.made.values())) for one in bins],
    )
