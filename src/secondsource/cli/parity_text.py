"""What a person reads of `secondsource parity`."""

import time
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Table

from secondsource.core.parity_record import Ruling
from secondsource.parity.judging import Judge
from secondsource.parity.report import KindLine, Report
from secondsource.parity.sequential import Decision

_LINE_EVERY_S = 5.0
_HEADLINES = {
    Ruling.AT_PAR: "At par",
    Ruling.NOT_AT_PAR: "Not at par",
    Ruling.NOT_ENOUGH_EVIDENCE: "Not enough evidence yet",
}


class Progress:
    """A bar on a terminal, elsewhere a line every few seconds."""

    def __init__(self, pool: str, against: str, most: int, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bars = Bars(*columns, console=self._console, transient=True)
        self._task = self._bars.add_task(f"{pool} against {against}", total=most)
        self._most = most
        self._said = time.monotonic()

    def __enter__(self) -> "Progress":
        if self._console.is_terminal:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._bars.stop()

    def tell(self, judge: Judge) -> None:
        """Show how far the run is; it ends as soon as the evidence is enough, mostly well before the last probe."""
        asked = len(judge.comparisons)
        self._bars.update(self._task, completed=asked)
        if not self._console.is_terminal and time.monotonic() - self._said > _LINE_EVERY_S:
            self._said = time.monotonic()
            open_tests = sum(one.decision is Decision.OPEN for one in judge.evidence.values())
            text = f"{asked} probes of at most {self._most} asked; {open_tests} of {len(judge.tests)} tests open"
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def show(report: Report, kept: Path | None, console: Console) -> None:
    """Print the ruling, its causes and its evidence."""
    agreement = report.agreement
    _say(console, f"{_HEADLINES[report.ruling]}: {report.pool} against {report.against}, {report.probes} probes.")
    for cause in report.causes:
        _say(console, f"  {cause.name}: {cause.evidence}")
    if report.logprobs:
        _say(
            console,
            f"Compared at {agreement.positions} positions: the same likeliest token at "
            f"{_share(agreement.top1_agreement)}, divergence at least {agreement.divergence_mean:.2g} nats, "
            f"largest gap {agreement.gap_max:.3g} nats; prompts up to {report.context_tokens_shown} tokens.",
        )
    else:
        _say(console, "One of the pools gives no log probabilities: only the beginnings of texts were compared.")
    console.print(_table(report))
    if report.untested:
        _say(console, f"Not tested, as {report.against} does not do it: {', '.join(report.untested)}.")
    rates = report.rates
    _say(
        console,
        f"A pool at par is called otherwise in at most {rates.false_alarm:.1%} of runs; "
        f"each test misses its share of faulty probes in at most {rates.missed:.0%}.",
    )
    _say(console, f"Kept in {kept}." if kept else "The earlier ruling, at par, stands.")


def _table(report: Report) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("probes", no_wrap=True)
    for heading in ("asked", "depart", "places", "top 1", "gap", "largest", "prompt", "length", "valid"):
        table.add_column(heading, justify="right", no_wrap=True)
    for line in report.by_kind:
        table.add_row(*_cells(line))
    return table


def _cells(line: KindLine) -> tuple[str, ...]:
    found = line.features
    spots = found.positions > 0
    lengths = line.answer_tokens_median
    return (
        line.kind,
        str(line.probes),
        str(found.departed) if spots else "",
        str(found.positions) if spots else "",
        _share(found.top1_agreement) if spots else "",
        f"{found.gap_median:.3f}" if spots else "",
        f"{found.gap_max:.3f}" if spots else "",
        "differs" if any(found.prompt_token_differences) else "same",
        f"{lengths[0]:g}/{lengths[1]:g}" if lengths else "",
        f"{line.valid[0]}/{line.valid[1]}" if line.valid else "",
    )


def _share(part: float) -> str:
    return f"{part:.1%}"


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
