"""The tables of `secondsource bench gateway`, for a terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from secondsource.benchmarking.arithmetic import Summary
from secondsource.benchmarking.drift import Drift
from secondsource.benchmarking.records import ROWS, Load, Row

COLUMNS = {
    Load.PLAIN: ("requests/s", "least to most", "× vllm-router", "p50 ms", "p99 ms", "CPU µs/request", "MB", "failed"),
    Load.STREAMS: (
        "events/s",
        "least to most",
        "CPU µs/event",
        "× vllm-router",
        "first byte p50, p99 ms",
        "added p50, p99 ms",
        "delay p99 ms",
        "MB",
        "failed",
    ),
}


def show(console: Console, summaries: Sequence[Summary]) -> None:
    """Print one table a row of the measurement."""
    for row in ROWS:
        some = [one for one in summaries if one.row == row.name]
        if not some:
            continue
        table = Table(title=row.title, title_justify="left")
        table.add_column("gateway")
        for name in COLUMNS[row.load]:
            table.add_column(name, justify="right")
        for one in some:
            table.add_row(one.gateway, *cells(row, one))
        console.print(table)


def cells(row: Row, one: Summary) -> list[str]:
    """Return a summary as the texts of the row's columns."""
    spread = f"{one.rate_least:,.0f} to {one.rate_most:,.0f}"
    memory = f"{one.rss_bytes / 1e6:,.0f}" if one.rss_bytes else ""
    if row.load is Load.PLAIN:
        times = (_ms(one.p50_us), _ms(one.p99_us), _number(one.cpu_us))
        return [f"{one.rate:,.0f}", spread, _ratio(one.rate_ratio), *times, memory, f"{one.failed}"]
    return [
        f"{one.rate:,.0f}",
        spread,
        _number(one.cpu_us),
        _ratio(one.cpu_ratio),
        f"{_ms(one.p50_us)}, {_ms(one.p99_us)}",
        "" if one.added_p99_us is None else f"{_ms(one.added_p50_us)}, {_ms(one.added_p99_us)}",
        _ms(one.delay_p99_us),
        memory,
        f"{one.failed}",
    ]


def _ms(microseconds: float | None) -> str:
    return "none" if microseconds is None else f"{microseconds / 1e3:,.2f}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f}"


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def show_drift(console: Console, drift: Drift) -> None:
    """Print what a gateway held over time, and the slope."""
    table = Table(title=f"memory over {drift.minutes:g} minutes", title_justify="left")
    for name in ("minute", "streams", "failed", "MB"):
        table.add_column(name, justify="right")
    for one in drift.samples:
        table.add_row(f"{one.at_s / 60:.1f}", f"{one.streams:,}", f"{one.failed}", f"{one.rss_bytes / 1e6:.1f}")
    console.print(table)
    console.print(f"{drift.bytes_per_hour / 1e6:+.1f} MB an hour once warm: {'flat' if drift.flat else 'NOT flat'}")
