"""What a soak found, as the section of docs/reliability.md between two markers."""

import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from textwrap import fill

from tests.faults.fault import BEFORE_ANSWER, BREAKS_STREAM, ODD_BUT_WHOLE
from tests.faults.soak_life import AT_ONCE, KILLED_ONE_IN, SIZES, Result

BEGIN = "<!-- soak: written by `make soak` -->"
END = "<!-- end of soak -->"
HEADING = "## What the soak found"
WIDTH = 118


def write_report(document: Path, section: str) -> None:
    """Put the section into the document, in place of the one before; without markers, at its end."""
    text = document.read_text()
    section = f"{BEGIN}\n{section}\n{END}"
    if BEGIN in text:
        before, rest = text.split(BEGIN, 1)
        text = before + section + rest.split(END, 1)[1]
    else:
        text = f"{text.rstrip()}\n\n{section}\n"
    document.write_text(text)


def report(result: Result, batch: int, seconds: float, commits: list[str], streams: int) -> str:
    """Return the section."""
    ran = f"{result.streams:,} streams of {streams:,}"
    failovers = sum(count for kind, count in result.attempts.items() if kind != "first")
    intro = (
        f"On {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {machine()}, other work beside it: **{ran}**, in "
        f"{result.batches:,} seeded schedules of {batch:,}, {AT_ONCE} at once at each of a few gateways, "
        f"in {seconds / 60:.0f} minutes ({result.streams / max(seconds, 1):.0f} streams a second). Answers are of "
        f"{min(SIZES)} to {max(SIZES)} bytes. {result.gateways:,} gateway processes were started, {result.kills:,} of "
        f"them because the one before had been killed with `kill -9` under load (one schedule in {KILLED_ONE_IN}), on "
        f"the same books. The code was that of {', '.join(commits)}."
    )
    tries = ", ".join(f"{count:,} {kind}" for kind, count in sorted(result.attempts.items()) if kind != "first")
    ends = ", ".join(f"{outcome} {count:,}" for outcome, count in result.outcomes.most_common())
    total = sum(result.attempts.values())
    attempts = f"{total:,} attempts, {failovers:,} of them after a failure ({tries}). They ended as: {ends}."
    books = (
        f"The books: after each schedule every attempt was compared with what its replica saw; {result.audits:,} times "
        f"`secondsource bill --audit --meter` at the end of a gateway's life, {result.metered:,} attempts compared "
        f"with their replica's own meter token by token; {result.tokens_out:,} tokens out. {result.late:,} whole "
        "streams were booked by our own count because their usage came later than it is waited for."
    )
    lines = [
        *(HEADING, "", f"    make soak STREAMS={streams}", "", fill(intro, WIDTH), ""),
        *("| what the client got | streams |", "| --- | --- |"),
        *(f"| {what} | {count:,} |" for what, count in result.verdicts.most_common()),
        *("", fill(attempts, WIDTH), "", "Faults that replicas carried out:", "", *_faults(result), ""),
        *(fill(books, WIDTH), "", fill(_memory(result), WIDTH), "", *_failures(result)),
    ]
    return "\n".join(lines)


def _faults(result: Result) -> list[str]:
    groups = {"before an answer": BEFORE_ANSWER, "in a stream": BREAKS_STREAM, "odd, and yet whole": ODD_BUT_WHOLE}
    lines = []
    for name, kinds in groups.items():
        counts = [f"{kind.value.replace('_', ' ')} {result.faults[kind.value]:,}" for kind in kinds]
        lines.append(fill(f"- {name}: {', '.join(counts)}", WIDTH, subsequent_indent="  "))
    return [*lines, f"- none: {result.faults['none']:,}"]


def _memory(result: Result) -> str:
    if not result.memory:
        return "Memory was not measured."
    longest = max(result.memory, key=lambda samples: samples[-1][0])
    series = ", ".join(f"{mib} MiB after {streams:,}" for streams, mib in longest)
    most = max(samples[-1][1] for samples in result.memory)
    return (
        f"Memory of the gateway process that lived longest: {series} streams. The most that any of "
        f"{len(result.memory)} had at its end: {most} MiB."
    )


def _failures(result: Result) -> list[str]:
    if not result.failures:
        return ["Failures: none."]
    lines = [f"Failures: {len(result.failures)}.", ""]
    for failure in result.failures:
        told = [line for line in failure.splitlines() if " findings, {" not in line and not line.startswith("  got ")]
        shown = "\n".join(line[:400] for line in told if line != "{}")
        lines += ["```", shown[:1200], *([] if len(shown) <= 1200 else ["…", told[-1]]), "```"]
    return lines


def machine() -> str:
    """Return what this machine is, in words."""
    facts = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.partition(":")[2].strip() for line in facts.splitlines() if line.startswith("model name")]
    model = names[0] if names else platform.machine()
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    return f"{os.cpu_count()} cores of {model}, {system}"
