"""The metrics page: the meter's counts, the replicas and the books, in Prometheus' text format.

Names and attributes follow OpenTelemetry's semantic conventions for generative AI: `gen_ai_server_*` is what our
clients get from us, `gen_ai_client_*` is what we get from suppliers, attempt by attempt. `secondsource_*` is
ours. `docs/metrics.md` lists them all.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from secondsource.core.money import NANO_USD
from secondsource.core.records import Kind, Outcome
from secondsource.gateway.admin.surge_metrics import lane_metrics, limit_metrics, share_metrics, way_in_metrics
from secondsource.gateway.admin.worker_metrics import worker_metrics
from secondsource.gateway.books.books import BooksStatus
from secondsource.gateway.meter import OPERATIONS, SECOND_NS, AttemptCounts, Histogram, Meter, RouteCounts
from secondsource.policy.circuit import CircuitState
from secondsource.policy.views import LaneView, ReplicaView, SupplierView, WorkerView

ROUTE = ("gen_ai_operation_name", "gen_ai_request_model", "secondsource_lane")
UPSTREAM = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "secondsource_pool")
PLACE = ("pool", "supplier", "chip")


class MetricsCollector(Collector):
    """Reads everything when it is asked, and keeps nothing."""

    def __init__(
        self,
        meter: Meter,
        replicas: Callable[[], Sequence[ReplicaView]],
        books: Callable[[], BooksStatus],
        lanes: Callable[[], Sequence[LaneView]] = tuple,
        suppliers: Callable[[], Sequence[SupplierView]] = tuple,
        workers: Callable[[], Sequence[WorkerView]] = tuple,
    ) -> None:
        self._meter = meter
        self._replicas = replicas
        self._books = books
        self._lanes = lanes
        self._suppliers = suppliers
        self._workers = workers

    def collect(self) -> Iterator[Metric]:
        """Yield every metric family."""
        # Copies: the event loop may add to the dictionaries while another thread is here.
        routes = list(self._meter.routes.items())
        attempts = list(self._meter.attempts.items())
        yield from _requests(routes)
        yield from _upstream(attempts)
        yield from _attempts(attempts)
        yield from _spends(self._meter)
        replicas = self._replicas()
        yield from _replica_states(replicas)
        yield from limit_metrics(replicas)
        yield from _books(self._books())
        yield from lane_metrics(self._lanes())
        yield from way_in_metrics(self._meter)
        yield from share_metrics(self._suppliers())
        yield from worker_metrics(self._workers())
        refusals = CounterMetricFamily(
            "secondsource_refusals", "Requests refused before they were started", labels=("lane", "status")
        )
        for (lane, status), count in list(self._meter.refusals.items()):
            refusals.add_metric((lane, str(status)), count)
        yield refusals
        yield CounterMetricFamily(
            "secondsource_log_lines_dropped", "Lines of the request log not written", self._meter.log_lines_dropped
        )


def make_registry(collector: MetricsCollector) -> CollectorRegistry:
    """Return a registry of our own, with the process's memory, CPU time and open files beside our metrics."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    ProcessCollector(registry=registry)
    return registry


def _requests(routes: list[tuple[tuple[str, str, str], RouteCounts]]) -> Iterator[Metric]:
    durations = HistogramMetricFamily(
        "gen_ai_server_request_duration_seconds",
        "From a request's arrival to the last byte of its answer",
        labels=(*ROUTE, "error_type"),
    )
    first_token = HistogramMetricFamily(
        "gen_ai_server_time_to_first_token_seconds",
        "From a request's arrival to the first token of its streamed answer",
        labels=ROUTE,
    )
    per_token = HistogramMetricFamily(
        "gen_ai_server_time_per_output_token_seconds",
        "Mean time per token of a streamed answer after its first",
        labels=ROUTE,
    )
    in_progress = GaugeMetricFamily("secondsource_requests_in_progress", "Requests being answered", labels=ROUTE)
    tokens = CounterMetricFamily(
        "secondsource_delivered_tokens", "Tokens delivered to clients, over all attempts of a request", labels=ROUTE
    )
    for (endpoint, model, lane), route in routes:
        labels = (OPERATIONS.get(endpoint, ""), model, lane)
        for status, histogram in sorted(route.durations.items()):
            _observed(durations, (*labels, str(status) if status >= 400 else ""), histogram, SECOND_NS)
        _observed(first_token, labels, route.first_token, SECOND_NS)
        _observed(per_token, labels, route.per_token, SECOND_NS)
        in_progress.add_metric(labels, route.started - route.ended)
        tokens.add_metric(labels, route.tokens_out)
    yield from (durations, first_token, per_token, in_progress, tokens)


def _upstream(attempts: list[tuple[tuple[str, str], AttemptCounts]]) -> Iterator[Metric]:
    durations = HistogramMetricFamily(
        "gen_ai_client_operation_duration_seconds",
        "Duration of one attempt at a supplier; error_type is its outcome",
        labels=(*UPSTREAM, "error_type"),
    )
    usage = HistogramMetricFamily(
        "gen_ai_client_token_usage",
        "Tokens of one attempt at a supplier",
        labels=(*UPSTREAM, "gen_ai_token_type"),
    )
    for (pool, endpoint), counts in attempts:
        labels = (OPERATIONS.get(endpoint, ""), counts.supplier, counts.model, pool)
        for outcome, histogram in sorted(counts.durations.items()):
            _observed(durations, (*labels, "" if outcome is Outcome.OK else outcome.value), histogram, SECOND_NS)
        _observed(usage, (*labels, "input"), counts.tokens_in, 1)
        _observed(usage, (*labels, "output"), counts.tokens_out, 1)
    yield from (durations, usage)


def _attempts(attempts: list[tuple[tuple[str, str], AttemptCounts]]) -> Iterator[Metric]:
    ended: Counter[tuple[str, ...]] = Counter()
    failovers: Counter[tuple[str, ...]] = Counter()
    continuations: Counter[tuple[str, ...]] = Counter()
    cached: Counter[tuple[str, ...]] = Counter()
    for (pool, _), counts in attempts:
        place = (pool, counts.supplier, counts.chip)
        cached[place] += counts.tokens_cached
        for (kind, outcome), count in list(counts.kinds.items()):
            ended[*place, kind.value, outcome.value] += count
            if kind is not Kind.FIRST:
                failovers[place] += count
            if kind in (Kind.CONTINUATION, Kind.REMAKE):
                continuations[*place, kind.value, outcome.value] += count
    described = (
        ("secondsource_attempts", "Attempts that ended", (*PLACE, "kind", "outcome"), ended),
        ("secondsource_failovers", "Attempts that took over from a failed one", PLACE, failovers),
        (
            "secondsource_continuations",
            "Attempts that took over in the middle of an answer",
            (*PLACE, "kind", "outcome"),
            continuations,
        ),
        ("secondsource_cached_tokens", "Input tokens that replicas had cached", PLACE, cached),
    )
    for name, documentation, labels, totals in described:
        family = CounterMetricFamily(name, documentation, labels=labels)
        for values, count in totals.items():
            family.add_metric(values, count)
        yield family


def _spends(meter: Meter) -> Iterator[Metric]:
    family = CounterMetricFamily(
        "secondsource_cost_usd",
        "Dollars that attempts cost, by who bears them; the ledger has the exact sums",
        labels=("tenant", "supplier", "borne_by"),
    )
    for (tenant, supplier), spend in list(meter.spends.items()):
        family.add_metric((tenant, supplier, "tenant"), spend.tenants_part / NANO_USD)
        family.add_metric((tenant, supplier, "operator"), (spend.cost - spend.tenants_part) / NANO_USD)
    yield family


def _replica_states(replicas: Sequence[ReplicaView]) -> Iterator[Metric]:
    in_flight = GaugeMetricFamily("secondsource_in_flight", "Attempts in flight", labels=PLACE)
    circuits = GaugeMetricFamily(
        "secondsource_circuit_state",
        "1 for the state that a replica's circuit is in",
        labels=("pool", "supplier", "replica", "state"),
    )
    totals: Counter[tuple[str, ...]] = Counter()
    for view in replicas:
        totals[view.pool, view.supplier, view.chip] += view.in_flight
        for state in CircuitState:
            circuits.add_metric((view.pool, view.supplier, view.replica, state.value), int(view.circuit is state))
    for place, count in totals.items():
        in_flight.add_metric(place, count)
    yield from (in_flight, circuits)


def _books(status: BooksStatus) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "secondsource_journal_pending_bytes", "Bytes of journal not yet in the ledger", status.pending_bytes
    )
    yield GaugeMetricFamily(
        "secondsource_journal_refusing", "1 while the journal cannot be written and work is refused", status.refusing
    )
    yield GaugeMetricFamily(
        "secondsource_ledger_failing", "1 while the ledger cannot take what the journal holds", bool(status.error)
    )
    yield CounterMetricFamily(
        "secondsource_ledger_records", "Records absorbed into the ledger since the start", status.records
    )
    irregular = GaugeMetricFamily(
        "secondsource_ledger_irregularities", "How often what should not happen is in the ledger", labels=("kind",)
    )
    for name, count in status.irregularities.items():
        irregular.add_metric((name,), count)
    yield irregular


def _observed(family: HistogramMetricFamily, labels: Sequence[str], histogram: Histogram, unit: int) -> None:
    counts = list(histogram.counts)
    buckets, below = [], 0
    for bound, count in zip((*histogram.bounds, None), counts, strict=True):
        below += count
        buckets.append(("+Inf" if bound is None else repr(bound / unit), below))
    family.add_metric(labels, buckets, histogram.total / unit)
