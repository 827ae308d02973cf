"""The rounds: every row, for every gateway in turn, again and again, so that a slow minute falls on all alike."""

import contextlib
import fcntl
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from secondsource.benchmarking.loads import run_plain, run_streams
from secondsource.benchmarking.machine import stolen_s
from secondsource.benchmarking.peers import KEY
from secondsource.benchmarking.records import Load, Row, Slice
from secondsource.benchmarking.stage import GATEWAY_CORE, Candidate

_SETTLE_S = 20.0


class Meter:
    """Reads what a gateway has used at the window's two ends."""

    def __init__(self, candidate: Candidate) -> None:
        self._program = candidate.program
        self._began = 0.0
        self._stolen_s = 0.0
        self.cpu_s = 0.0
        self.stolen_s = 0.0

    def begin(self) -> None:
        """Mark the window's start."""
        self._began = self._program.cpu_s() if self._program else 0.0
        self._stolen_s = stolen_s(GATEWAY_CORE)

    def end(self) -> None:
        """Mark the window's end."""
        self.stolen_s = stolen_s(GATEWAY_CORE) - self._stolen_s
        if self._program:
            self.cpu_s = self._program.cpu_s() - self._began

    def rss_bytes(self) -> int:
        """Return the memory held now."""
        return self._program.rss_bytes() if self._program else 0


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be measured, and where it is kept."""

    rows: Sequence[Row]
    rounds: int
    scratch: Path
    locks: Sequence[Path] = ()  # held while one row of one round is measured
    kept: Sequence[Slice] = ()  # measured before, not to be measured again


def measure(
    plan: Plan, candidates: Sequence[Candidate], say: Callable[[str], None], keep: Callable[[Slice], None]
) -> list[Slice]:
    """Measure what is not kept yet, giving each slice to `keep` as it is done; return all slices."""
    rows, present = {row.name for row in plan.rows}, {(one.name, one.version) for one in candidates}
    slices = [
        one
        for one in plan.kept
        if one.row in rows and (one.gateway, one.version) in present and one.round <= plan.rounds
    ]
    have = {(one.gateway, one.version, one.row, one.round) for one in slices}
    for number in range(1, plan.rounds + 1):
        for row in plan.rows:
            due = [one for one in candidates if (one.name, one.version, row.name, number) not in have]
            if not due:
                continue
            say(f"round {number} of {plan.rounds}: {row.title}: waiting for the machine")
            with _locked(plan.locks):
                for candidate in due:
                    say(f"round {number} of {plan.rounds}: {row.title}: {candidate.name}")
                    for one in candidates:  # who was measured before may still answer what nobody waits for
                        if one.program is not None:
                            one.program.settle(_SETTLE_S)
                    done = measure_slice(row, candidate, number, plan.scratch)
                    keep(done)
                    slices.append(done)
    return slices


def measure_slice(row: Row, candidate: Candidate, number: int, scratch: Path) -> Slice:
    """Measure one row of one gateway once; SecondsourceError if its process or the client fails."""
    meter = Meter(candidate)
    if candidate.program is not None:
        candidate.program.require_alive()
    make = _plain_slice if row.load is Load.PLAIN else _stream_slice
    return make(row, candidate, number, scratch, meter)


def _plain_slice(row: Row, candidate: Candidate, number: int, scratch: Path, meter: Meter) -> Slice:
    result = run_plain(row, candidate.port, KEY, scratch, meter.begin)
    meter.end()
    return Slice(
        gateway=candidate.name,
        version=candidate.version,
        row=row.name,
        round=number,
        window_s=result.duration_us / 1e6,
        done=result.requests,
        failed=result.failed,
        cpu_s=meter.cpu_s,
        rss_bytes=meter.rss_bytes(),
        p50_us=result.p50_us,
        p99_us=result.p99_us,
        stolen_s=meter.stolen_s,
    )


def _stream_slice(row: Row, candidate: Candidate, number: int, _: Path, meter: Meter) -> Slice:
    result = run_streams(row, candidate.port, KEY, meter.begin, meter.end)
    return Slice(
        gateway=candidate.name,
        version=candidate.version,
        row=row.name,
        round=number,
        window_s=result.seconds,
        done=result.events,
        failed=result.refused + result.disordered + result.cut + result.unconnected,
        cpu_s=meter.cpu_s,
        rss_bytes=meter.rss_bytes(),
        p50_us=_known(result.first_byte_us_p50),
        p99_us=_known(result.first_byte_us_p99),
        delay_p50_us=_known(result.delay_us_p50),
        delay_p99_us=_known(result.delay_us_p99),
        stolen_s=meter.stolen_s,
        example=result.example,
    )


def _known(microseconds: float) -> float | None:
    return None if microseconds < 0 else microseconds


@contextlib.contextmanager
def _locked(paths: Sequence[Path]) -> Iterator[None]:
    """Hold these files' locks, in order: who shares the machine keeps out of a measurement by the same locks."""
    with contextlib.ExitStack() as held:
        for path in paths:
            file = held.enter_context(path.open("a"))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
