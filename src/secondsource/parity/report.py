"""The report of a run: the ruling with its evidence, as stable JSON and as what the gateway reads."""

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from secondsource.core.fleet import Pool
from secondsource.core.parity_record import Identity, Ruling, identity_of, is_at_par, read_record, record_path
from secondsource.parity.comparison import Comparison
from secondsource.parity.diagnosis import Cause, Features, causes_of, features_of, median
from secondsource.parity.examination import Examined
from secondsource.parity.judging import FALSE_ALARM, MISSED, Judge
from secondsource.parity.probes import Kind
from secondsource.parity.sequential import Decision


class TestLine(msgspec.Struct, frozen=True, kw_only=True):
    """One sequential test: probes seen, and of them those that told against the pool."""

    name: str
    decision: Decision
    seen: int
    hits: int
    share_at_par: float
    share_faulty: float


class KindLine(msgspec.Struct, frozen=True, kw_only=True):
    """What one kind of probe showed; gaps in nats, None where no log probabilities could be compared."""

    kind: Kind
    probes: int
    features: Features
    answer_tokens_median: tuple[float, float] | None  # of the pool, and of the other
    valid: tuple[int, int] | None  # answers that followed the schema


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """What the sequential tests promise."""

    false_alarm: float = FALSE_ALARM  # at most, of a whole run with a pool at par
    missed: float = MISSED  # at most, of each test, where the share of telling probes is `share_faulty` or more


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a run found; `ruling` and `identity` are what the gateway reads."""

    ruling: Ruling
    identity: Identity
    pool: str
    against: str
    against_identity: Identity
    at: datetime
    duration_s: float
    probes: int
    logprobs: bool  # whether there were any to compare; else texts were
    tolerance_nats: float
    context_tokens_shown: int
    rates: Rates
    causes: tuple[Cause, ...]  # the likeliest first; empty unless not at par
    agreement: Features  # over all kinds
    by_kind: tuple[KindLine, ...]
    untested: tuple[Kind, ...]
    departed_by_replica: dict[str, tuple[int, int]]  # probes that depart, of so many
    tests: tuple[TestLine, ...]


def make_report(a: Pool, b: Pool, examined: Examined, at: datetime, duration_s: float) -> Report:
    """Return the report of a run on pool `a` against pool `b`."""
    judge = examined.judge
    return Report(
        ruling=judge.ruling,
        identity=identity_of(a),
        pool=a.name,
        against=b.name,
        against_identity=identity_of(b),
        at=at,
        duration_s=round(duration_s, 3),
        probes=len(judge.comparisons),
        logprobs=examined.logprobs,
        tolerance_nats=judge.tolerance,
        context_tokens_shown=examined.context_tokens,
        rates=Rates(),
        causes=causes_of(judge) if judge.ruling is Ruling.NOT_AT_PAR else (),
        agreement=features_of(judge.comparisons, judge.tolerance),
        by_kind=tuple(line for kind in Kind if (line := _kind_line(kind, judge)) is not None),
        untested=tuple(sorted(judge.untested())),
        departed_by_replica=_by_replica(judge),
        tests=tuple(_test_line(judge, place) for place in range(len(judge.tests))),
    )


def _test_line(judge: Judge, place: int) -> TestLine:
    test = judge.tests[place]
    found = judge.evidence[test.name]
    return TestLine(
        name=test.name,
        decision=found.decision,
        seen=found.seen,
        hits=found.hits,
        share_at_par=test.at_par,
        share_faulty=test.faulty,
    )


def _kind_line(kind: Kind, judge: Judge) -> KindLine | None:
    found = [one for one in judge.comparisons if one.kind is kind]
    if not found:
        return None
    lengths = [one.answer_tokens for one in found if one.answer_tokens is not None]
    valid = [one.valid for one in found if one.valid is not None]
    return KindLine(
        kind=kind,
        probes=len(found),
        features=features_of(found, judge.tolerance),
        answer_tokens_median=(median([one for one, _ in lengths]), median([other for _, other in lengths]))
        if lengths
        else None,
        valid=(sum(one for one, _ in valid), sum(other for _, other in valid)) if valid else None,
    )


def _by_replica(judge: Judge) -> dict[str, tuple[int, int]]:
    spotted: Sequence[Comparison] = [one for one in judge.comparisons if one.spots]
    return {
        replica: (
            sum(one.gap > judge.tolerance for one in spotted if one.replica == replica),
            sum(one.replica == replica for one in spotted),
        )
        for replica in sorted({one.replica for one in spotted})
    }


def keep_report(report: Report, pool: Pool, state_dir: Path) -> Path | None:
    """Write the report where the gateway reads it, whole or not at all; return the path.

    A run without enough evidence takes no earlier ruling on the same pool away: then None is returned.
    """
    path = record_path(state_dir, pool.name)
    if report.ruling is Ruling.NOT_ENOUGH_EVIDENCE and is_at_par(pool, read_record(path)):
        return None
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}.new")
    unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
    unfinished.replace(path)
    return path
