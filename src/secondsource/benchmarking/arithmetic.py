"""What slices come to: medians over rounds, ratios beside a baseline, the slope of memory over time."""

from collections.abc import Callable, Iterable, Sequence
from statistics import median

import msgspec

from secondsource.benchmarking.records import Slice


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """One row of one gateway over all rounds: medians, and all failures added."""

    gateway: str
    version: str
    row: str
    rounds: int
    rate: float
    rate_least: float
    rate_most: float
    failed: int
    cpu_us: float | None
    rss_bytes: int
    p50_us: float | None
    p99_us: float | None
    delay_p50_us: float | None
    delay_p99_us: float | None
    stolen: float = 0.0  # part of the windows that the gateway's core was taken away
    added_p50_us: float | None = None  # to the same percentile without a gateway
    added_p99_us: float | None = None
    rate_ratio: float | None = None  # to the baseline
    cpu_ratio: float | None = None


def middle(values: Iterable[float | None]) -> float | None:
    """Return the median of the known values; None where there is none."""
    known = [value for value in values if value is not None]
    return median(known) if known else None


def summarise(slices: Sequence[Slice], direct: str, baseline: str) -> list[Summary]:
    """Return a summary for each row and gateway, in the slices' order, beside `direct` and `baseline`."""
    groups: dict[tuple[str, str], list[Slice]] = {}
    for one in slices:
        groups.setdefault((one.row, one.gateway), []).append(one)
    plain = {key: _summary(group) for key, group in groups.items()}
    return [_beside(one, plain.get((one.row, direct)), plain.get((one.row, baseline))) for one in plain.values()]


def _summary(group: Sequence[Slice]) -> Summary:
    def of(value: Callable[[Slice], float | None]) -> float | None:
        return middle(value(one) for one in group)

    rates = [one.rate for one in group]
    return Summary(
        gateway=group[0].gateway,
        version=group[-1].version,
        row=group[0].row,
        rounds=len(group),
        rate=median(rates),
        rate_least=min(rates),
        rate_most=max(rates),
        failed=sum(one.failed for one in group),
        cpu_us=of(lambda one: one.cpu_us),
        rss_bytes=int(median(one.rss_bytes for one in group)),
        p50_us=of(lambda one: one.p50_us),
        p99_us=of(lambda one: one.p99_us),
        delay_p50_us=of(lambda one: one.delay_p50_us),
        delay_p99_us=of(lambda one: one.delay_p99_us),
        stolen=sum(one.stolen_s for one in group) / sum(one.window_s for one in group),
    )


def _beside(one: Summary, direct: Summary | None, baseline: Summary | None) -> Summary:
    bare = direct if direct is not None and direct.gateway != one.gateway else None
    return msgspec.structs.replace(
        one,
        added_p50_us=_less(one.p50_us, bare.p50_us) if bare else None,
        added_p99_us=_less(one.p99_us, bare.p99_us) if bare else None,
        rate_ratio=ratio(one.rate, baseline.rate) if baseline else None,
        cpu_ratio=ratio(one.cpu_us, baseline.cpu_us) if baseline else None,
    )


def _less(value: float | None, base: float | None) -> float | None:
    return None if value is None or base is None else value - base


def ratio(value: float | None, base: float | None) -> float | None:
    """Return value / base; None where either is unknown or the base is 0."""
    return None if value is None or not base else value / base


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the slope of the least-squares line through (x, y); 0 for fewer than two different x."""
    if not points:
        return 0.0
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0
