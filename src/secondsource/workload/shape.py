"""The daily shape: how far a lane's busiest time of day stands above its mean.

Capacity is rented for the peak and paid by the month; tokens are served at the mean. The planner needs
both, so it needs their ratio.
"""

import csv
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import msgspec

from secondsource.core.errors import InputError
from secondsource.workload.trace import Arrival

DAY_S = 86_400.0


class Window(msgspec.Struct, frozen=True, gc=False):
    """The mean rate, in requests/s, from `t_s` on for the length of a window, and the line it stands on."""

    t_s: float
    requests_per_s: float
    line: int


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """A daily shape: the mean rate of each hour of the day over the mean of all (24 numbers, mean 1)."""

    by_hour: tuple[float, ...]
    mean_requests_per_s: float
    peak_requests_per_s: float  # the busiest window seen

    @property
    def mean_to_peak(self) -> float:
        """The mean over the busiest window, above 0 and at most 1."""
        return self.mean_requests_per_s / self.peak_requests_per_s


def windows_of(arrivals: Iterable[Arrival], window_s: float = 600.0) -> tuple[Window, ...]:
    """Return a trace's rates by window of `window_s` seconds; a last, partial window is left out."""
    counts: list[int] = []
    lines: list[int] = []
    origin: float | None = None
    end = 0.0
    for arrival in arrivals:
        if origin is None:
            origin = arrival.t_s
        end = arrival.t_s - origin
        at = int(end // window_s)
        while len(counts) <= at:
            counts.append(0)
            lines.append(arrival.line)
        counts[at] += 1
    whole = max(1, int(end // window_s))
    span = window_s if end >= window_s else max(end, 1.0)
    start = origin or 0.0
    return tuple(Window(start + i * window_s, count / span, lines[i]) for i, count in enumerate(counts[:whole]))


def read_rates(path: Path, model: str | None = None) -> tuple[Window, ...]:
    """Return the windows of a rate file: ServeGen's `chunk-*-trace.csv` or a table with a header.

    ServeGen's rows are `t_s,requests_per_s,cv,...` without a header; a table has the columns `t_s` and
    `rate_req_s` or `requests_per_s`, and may have `model`, of which one is chosen. Raises InputError with
    file and line for a row that cannot be read, a missing window, or a window of rate zero.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as a CSV of rates: {error}") from error
    windows = [
        _window(path, line, cells) for line, cells in enumerate(_plain_rows(path, rows, model), start=1) if cells
    ]
    if not windows:
        raise InputError(f"{path}: no rates" + (f" for the model {model!r}" if model else ""))
    _check_windows(path, windows)
    return tuple(windows)


def _plain_rows(path: Path, rows: Sequence[Sequence[str]], model: str | None) -> list[tuple[str, str] | None]:
    """Return (time, rate) for each line of the file, None for the lines that do not count."""
    header = [cell.strip() for cell in rows[0]] if rows else []
    if "t_s" not in header:  # ServeGen's own files have no header
        return [(cells[0], cells[1]) if len(cells) > 1 else None for cells in rows]
    rate = next((name for name in ("requests_per_s", "rate_req_s") if name in header), None)
    if rate is None:
        raise InputError(f"{path}:1: expected a column requests_per_s or rate_req_s, found {header}")
    at_time, at_rate = header.index("t_s"), header.index(rate)
    at_model = header.index("model") if "model" in header else None
    models = {cells[at_model] for cells in rows[1:] if cells} if at_model is not None else set()
    if len(models) > 1 and model not in models:
        raise InputError(f"{path}: holds the rates of several models; choose one of {sorted(models)}")
    return [None] + [
        (cells[at_time], cells[at_rate])
        if cells and (at_model is None or model is None or cells[at_model] == model)
        else None
        for cells in rows[1:]
    ]


def _window(path: Path, line: int, cells: tuple[str, str]) -> Window:
    try:
        window = Window(float(cells[0]), float(cells[1]), line)
    except ValueError as error:
        raise InputError(f"{path}:{line}: expected a time in s and a rate in requests/s, found {cells}") from error
    if window.requests_per_s < 0:
        raise InputError(f"{path}:{line}: a rate cannot be negative: {cells[1]}")
    return window


def _check_windows(path: Path, windows: Sequence[Window]) -> None:
    steps = sorted(b.t_s - a.t_s for a, b in pairwise(windows))
    usual = steps[len(steps) // 2] if steps else 0.0
    for before, after in pairwise(windows):
        step = after.t_s - before.t_s
        if step <= 0 or step > 1.5 * usual:
            raise InputError(
                f"{path}:{after.line}: a gap, {step:g} s since line {before.line} where windows are "
                f"{usual:g} s apart; cut the file to the part without it, or fill in the missing windows"
            )
    for window in windows:
        if window.requests_per_s == 0:
            raise InputError(
                f"{path}:{window.line}: a window of rate 0 reads as missing data; cut it off, or write the "
                f"rate that was really seen"
            )


def learn_shape(windows: Sequence[Window]) -> Shape:
    """Return the daily shape of a sequence of windows; hours that were not seen count as the mean."""
    if not windows:
        raise InputError("a daily shape needs at least one window of a trace")
    mean = sum(window.requests_per_s for window in windows) / len(windows)
    by_hour: list[list[float]] = [[] for _ in range(24)]
    for window in windows:
        by_hour[int(window.t_s % DAY_S // 3600)].append(window.requests_per_s)
    hours = [sum(rates) / len(rates) / mean if rates else 1.0 for rates in by_hour]
    scale = 24 / sum(hours)
    return Shape(
        by_hour=tuple(hour * scale for hour in hours),
        mean_requests_per_s=mean,
        peak_requests_per_s=max(window.requests_per_s for window in windows),
    )
