"""What the gateway is held to beside vllm-router, and whether a run shows it."""

from collections.abc import Sequence

import msgspec

from secondsource.benchmarking.arithmetic import Summary
from secondsource.benchmarking.peers import BASELINE, OURS

LEAST_RATE_RATIO = 2.0
MOST_CPU_RATIO = 0.85


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """One aim, what was measured, and whether it is held."""

    aim: str
    measured: str
    held: bool


def judge(summaries: Sequence[Summary]) -> list[Verdict]:
    """Return a verdict on each aim for which both gateways were measured."""
    found = {(one.gateway, one.row): one for one in summaries}
    verdicts = []
    for row, verdict in (("plain-64", _rate), ("paced", _cpu), ("paced", _first_byte)):
        ours, theirs = found.get((OURS, row)), found.get((BASELINE, row))
        if ours is not None and theirs is not None:
            verdicts += verdict(ours, theirs)
    return verdicts


def _rate(ours: Summary, _: Summary) -> list[Verdict]:
    if ours.rate_ratio is None:
        return []
    aim = f"at 64 connections at least {LEAST_RATE_RATIO:g} × vllm-router's requests/s"
    return [Verdict(aim=aim, measured=f"{ours.rate_ratio:.2f} ×", held=ours.rate_ratio >= LEAST_RATE_RATIO)]


def _cpu(ours: Summary, _: Summary) -> list[Verdict]:
    if ours.cpu_ratio is None:
        return []
    aim = f"at most {MOST_CPU_RATIO:g} × vllm-router's CPU an event, 500 paced streams"
    return [Verdict(aim=aim, measured=f"{ours.cpu_ratio:.2f} ×", held=ours.cpu_ratio <= MOST_CPU_RATIO)]


def _first_byte(ours: Summary, theirs: Summary) -> list[Verdict]:
    if ours.added_p99_us is None or theirs.added_p99_us is None:
        return []
    return [
        Verdict(
            aim="added time to first byte, p99, no worse than vllm-router's, 500 paced streams",
            measured=f"{ours.added_p99_us / 1e3:.2f} ms beside {theirs.added_p99_us / 1e3:.2f} ms",
            held=ours.added_p99_us <= theirs.added_p99_us,
        )
    ]
