"""BENCHMARKS.md: the sections that a run writes, between marks, so that every other word of the page stays."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from secondsource.benchmarking.aims import judge
from secondsource.benchmarking.arithmetic import Summary
from secondsource.benchmarking.drift import Drift, Sample
from secondsource.benchmarking.records import ROWS, Load

STOLEN_MATTERS = 0.03  # of a window
NEW_PAGE = """# Benchmarks

Each section is written by the command it names, and holds on the machine it names. Compare the ratios: the gateways
were measured in turn on one machine, and another machine moves them all alike.
"""
_HOW = """\
Every gateway runs on core 0, the others idle meanwhile, before the same two replicas. The replicas, a C program that
answers from memory and sends each event by itself, share core 1 with the client: wrk for plain requests, and for
streams a C client that judges the order and the end of each. Row by row, all gateways are measured in turn, round
after round. Ours has hashed keys, ledger, metrics, request log and continuation on. The peers run as their makers ship
them, the routers with round robin and error logs only, LiteLLM with its one master key; none keeps a ledger. nginx
neither buffers nor logs and is the floor: it parses no answer. `none` is the client at the replicas themselves, both
on core 1."""


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """When, where and by which command a section was measured."""

    date: str
    machine: str
    command: str


def replace_section(page: str, name: str, section: str) -> str:
    """Return the page with the named section in the place of its last version, or at the end."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    block = f"{begin}\n{section.strip()}\n{end}"
    before, mark, rest = page.partition(begin)
    if not mark:
        return f"{page.rstrip()}\n\n{block}\n"
    return before + block + rest.partition(end)[2]


def gateways_section(summaries: Sequence[Summary], absent: Mapping[str, str], setting: Setting) -> str:
    """Return the section of the gateways side by side."""
    versions = {one.gateway: one.version for one in summaries if one.version}
    rounds = max(one.rounds for one in summaries)
    parts = [
        "## The gateway beside its peers",
        measured(setting),
        f"Versions: {', '.join(f'{name} {version}' for name, version in versions.items())}.",
        _HOW,
        f"Plain requests. Every number is the median of {rounds} round(s); × is the ratio to vllm-router.",
        _plain_table(summaries),
        "Streams. CPU for each event is judged at the fixed load; saturation rewards coalescing. Added time to first "
        "byte is that through the gateway less that without one, at the same percentile.",
        _stream_table(summaries),
        "Resident memory in MB after each row, in the order measured:",
        _memory_table(summaries),
        *_stolen(summaries),
        *_remarks(summaries, absent),
        *_aims(summaries),
    ]
    return "\n\n".join(parts)


def drift_section(drift: Drift, load: str, setting: Setting) -> str:
    """Return the section of memory over time."""
    last = drift.samples[-1]
    rows = _every(drift.samples, 12)
    grid = table(
        ("minute", "streams so far", "resident MB"),
        ((f"{one.at_s / 60:.1f}", f"{one.streams:,}", f"{one.rss_bytes / 1e6:.1f}") for one in rows),
    )
    return "\n\n".join(
        [
            "## Memory over time",
            measured(setting),
            f"{drift.gateway} {drift.version} under {load} for {drift.minutes:g} minutes; every part of the run ends "
            f"with all clients leaving in mid-stream. {last.streams:,} streams whole, {last.failed} failed. Once warm, "
            f"memory moves by {drift.bytes_per_hour / 1e6:+.1f} MB an hour: {'flat' if drift.flat else 'NOT FLAT'} "
            "(flat is less than 5 % an hour of what is held).",
            grid,
        ]
    )


def measured(setting: Setting) -> str:
    """Return when, where and by which command, as a section begins."""
    return f"Measured {setting.date} on {setting.machine}, by\n\n```sh\n{setting.command}\n```"


def _plain_table(summaries: Sequence[Summary]) -> str:
    rows = [row for row in ROWS if row.load is Load.PLAIN and any(one.row == row.name for one in summaries)]
    heads = [head for row in rows for head in (f"{row.title}: requests/s", "×", "p99 ms")]
    return _by_gateway(summaries, heads, [row.name for row in rows], _plain_cells)


def _plain_cells(one: Summary) -> tuple[str, ...]:
    return f"{one.rate:,.0f}", shown(one.rate_ratio, 2), shown(one.p99_us, 2, 1e-3)


def _stream_table(summaries: Sequence[Summary]) -> str:
    rows = [row for row in ROWS if row.load is Load.STREAMS and any(one.row == row.name for one in summaries)]
    heads = [
        head
        for row in rows
        for head in (
            f"{row.title}: events/s",
            "CPU µs an event",
            "×",
            "added first byte p50 ms",
            "p99 ms",
            "event delay p99 ms",
        )
    ]
    return _by_gateway(summaries, heads, [row.name for row in rows], _stream_cells)


def _stream_cells(one: Summary) -> tuple[str, ...]:
    return (
        f"{one.rate:,.0f}",
        shown(one.cpu_us, 1),
        shown(one.cpu_ratio, 2),
        shown(one.added_p50_us, 2, 1e-3),
        shown(one.added_p99_us, 2, 1e-3),
        shown(one.delay_p99_us, 2, 1e-3),
    )


def _memory_table(summaries: Sequence[Summary]) -> str:
    names = [row.name for row in ROWS if any(one.row == row.name for one in summaries)]
    held = [one for one in summaries if one.rss_bytes]
    return _by_gateway(held, names, names, lambda one: (f"{one.rss_bytes / 1e6:,.0f}",))


def _stolen(summaries: Sequence[Summary]) -> list[str]:
    """Say how much of the gateways' core the machine's host gave to others, where it was enough to matter."""
    known = [one for one in summaries if one.cpu_us is not None]
    if max((one.stolen for one in known), default=0.0) < STOLEN_MATTERS:
        return []
    names = [row.name for row in ROWS if any(one.row == row.name for one in summaries)]
    return [
        "**The machine's host took core 0 away** for these parts of each window, in %; what was measured then says "
        "little, of rates and of waits least:",
        _by_gateway(known, names, names, lambda one: (f"{100 * one.stolen:.0f}",)),
    ]


def _remarks(summaries: Sequence[Summary], absent: Mapping[str, str]) -> list[str]:
    titles = {row.name: row.title for row in ROWS}
    failed = [f"{one.gateway} failed {one.failed:,} of {titles[one.row]}" for one in summaries if one.failed]
    missing = [f"{name} took no part: {reason}" for name, reason in absent.items()]
    return [f"{'; '.join([*failed, *missing])}."] if failed or missing else ["No request failed."]


def _aims(summaries: Sequence[Summary]) -> list[str]:
    rows = [(verdict.aim, verdict.measured, "yes" if verdict.held else "**no**") for verdict in judge(summaries)]
    return ["### What we hold ourselves to", table(("aim", "measured", "held"), rows)] if rows else []


def _by_gateway(
    summaries: Sequence[Summary],
    heads: Sequence[str],
    rows: Sequence[str],
    cells: Callable[[Summary], tuple[str, ...]],
) -> str:
    found = {(one.gateway, one.row): cells(one) for one in summaries}
    width = len(heads) // len(rows) if rows else 0
    blank = ("",) * width
    gateways = dict.fromkeys(one.gateway for one in summaries)
    lines = ((name, *(cell for row in rows for cell in found.get((name, row), blank))) for name in gateways)
    return table(("", *heads), lines)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table whose first column is of words and whose others are of numbers."""
    marks = ["---", *["---:"] * (len(heads) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, marks, *rows))


def _every(items: Sequence[Sample], most: int) -> list[Sample]:
    step = max(1, -(-len(items) // most))
    return [item for number, item in enumerate(items) if number % step == 0 or number == len(items) - 1]


def shown(value: float | None, digits: int, scale: float = 1.0) -> str:
    """Return a number, or nothing for what was not measured."""
    return "" if value is None else f"{value * scale:,.{digits}f}"
