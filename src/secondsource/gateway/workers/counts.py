"""The meters of several workers as one: copied out, sent, and added up."""

from collections.abc import Iterable

import msgspec

from secondsource.core.records import Kind, Outcome
from secondsource.gateway.meter import AttemptCounts, Histogram, Meter, RouteCounts


class HistogramCopy(msgspec.Struct, array_like=True):
    """A histogram's counts by bucket, and the sum of all values."""

    counts: list[int]
    total: int

    def add_to(self, histogram: Histogram) -> None:
        """Add these counts to a histogram of the same bounds."""
        for place, count in enumerate(self.counts):
            histogram.counts[place] += count
        histogram.total += self.total


class RouteCopy(msgspec.Struct, array_like=True):
    """See `meter.RouteCounts`."""

    started: int
    ended: int
    tokens_out: int
    durations: dict[int, HistogramCopy]
    first_token: HistogramCopy
    per_token: HistogramCopy


class AttemptCopy(msgspec.Struct, array_like=True):
    """See `meter.AttemptCounts`."""

    supplier: str
    chip: str
    model: str
    kinds: dict[tuple[Kind, Outcome], int]
    durations: dict[Outcome, HistogramCopy]
    tokens_in: HistogramCopy
    tokens_out: HistogramCopy
    tokens_cached: int


class Counts(msgspec.Struct):
    """All counts of one worker since it started; see `meter.Meter`."""

    routes: dict[tuple[str, str, str], RouteCopy]
    attempts: dict[tuple[str, str], AttemptCopy]
    spends: dict[tuple[str, str], tuple[int, int]]
    refusals: dict[tuple[str, int], int]
    refused: dict[tuple[str, str], int]
    predictions: dict[str, HistogramCopy]
    cap_breaches: dict[str, int]
    image_requests: dict[str, int]
    log_lines_dropped: int


def copy_of(meter: Meter) -> Counts:
    """Return a copy of a meter's counts."""
    return Counts(
        routes={key: _route(counts) for key, counts in meter.routes.items()},
        attempts={key: _attempt(counts) for key, counts in meter.attempts.items()},
        spends={key: (spend.cost, spend.tenants_part) for key, spend in meter.spends.items()},
        refusals=dict(meter.refusals),
        refused=dict(meter.refused),
        predictions={lane: _histogram(histogram) for lane, histogram in meter.predictions.items()},
        cap_breaches=dict(meter.cap_breaches),
        image_requests=dict(meter.image_requests),
        log_lines_dropped=meter.log_lines_dropped,
    )


def add_up(all_counts: Iterable[Counts]) -> Meter:
    """Return a meter that has counted all of it."""
    meter = Meter((), ())
    for counts in all_counts:
        _add(meter, counts)
    return meter


def show(total: Meter, shown: Meter) -> None:
    """Have `shown` count what `total` does; another thread may be reading it."""
    shown.routes = total.routes
    shown.attempts = total.attempts
    shown.spends = total.spends
    shown.refusals = total.refusals
    shown.refused = total.refused
    shown.predictions = total.predictions
    shown.cap_breaches = total.cap_breaches
    shown.image_requests = total.image_requests
    shown.log_lines_dropped = total.log_lines_dropped


def at_the_end(counts: Counts) -> Counts:
    """Return the last counts of a worker that is gone: what it had started has ended with it."""
    routes = {key: msgspec.structs.replace(route, ended=route.started) for key, route in counts.routes.items()}
    return msgspec.structs.replace(counts, routes=routes)


def _histogram(histogram: Histogram) -> HistogramCopy:
    return HistogramCopy(list(histogram.counts), histogram.total)


def _route(counts: RouteCounts) -> RouteCopy:
    durations = {status: _histogram(histogram) for status, histogram in counts.durations.items()}
    first_token, per_token = _histogram(counts.first_token), _histogram(counts.per_token)
    return RouteCopy(counts.started, counts.ended, counts.tokens_out, durations, first_token, per_token)


def _attempt(counts: AttemptCounts) -> AttemptCopy:
    return AttemptCopy(
        counts.supplier,
        counts.chip,
        counts.model,
        dict(counts.kinds),
        {outcome: _histogram(histogram) for outcome, histogram in counts.durations.items()},
        _histogram(counts.tokens_in),
        _histogram(counts.tokens_out),
        counts.tokens_cached,
    )


def _add(meter: Meter, counts: Counts) -> None:
    for route_key, route in counts.routes.items():
        _add_route(meter.routes.setdefault(route_key, RouteCounts()), route)
    for attempt_key, attempt in counts.attempts.items():
        place = AttemptCounts(attempt.supplier, attempt.chip, attempt.model)
        _add_attempt(meter.attempts.setdefault(attempt_key, place), attempt)
    for spend_key, (cost, tenants_part) in counts.spends.items():
        meter.spends[spend_key].cost += cost
        meter.spends[spend_key].tenants_part += tenants_part
    for refusal, count in counts.refusals.items():
        meter.refusals[refusal] += count
    for refused, count in counts.refused.items():
        meter.refused[refused] += count
    for lane, prediction in counts.predictions.items():
        prediction.add_to(meter.predictions[lane])
    for supplier, count in counts.cap_breaches.items():
        meter.cap_breaches[supplier] += count
    for came_to, count in counts.image_requests.items():
        meter.image_requests[came_to] += count
    meter.log_lines_dropped += counts.log_lines_dropped


def _add_route(into: RouteCounts, route: RouteCopy) -> None:
    into.started += route.started
    into.ended += route.ended
    into.tokens_out += route.tokens_out
    for status, histogram in route.durations.items():
        histogram.add_to(into.durations[status])
    route.first_token.add_to(into.first_token)
    route.per_token.add_to(into.per_token)


def _add_attempt(into: AttemptCounts, attempt: AttemptCopy) -> None:
    for kind, count in attempt.kinds.items():
        into.kinds[kind] += count
    for outcome, histogram in attempt.durations.items():
        histogram.add_to(into.durations[outcome])
    attempt.tokens_in.add_to(into.tokens_in)
    attempt.tokens_out.add_to(into.tokens_out)
    into.tokens_cached += attempt.tokens_cached
