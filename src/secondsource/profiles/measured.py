"""Corrections from our own ledger: what a chip did with a model while we served it.

Reads the `attempt` table of a ledger (see docs/ledger.md): answered streams with their time to the first token,
their duration and their tokens. How many ran beside an attempt is counted from the attempts' own times, so a
replica that also serves others looks slower than it is. Nothing is written.
"""

import sqlite3
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from statistics import median, quantiles

import msgspec

from secondsource.core.errors import InputError
from secondsource.profiles.efficiency import Accuracy, Correction, Efficiencies
from secondsource.profiles.models import one_model
from secondsource.profiles.predict import speed
from secondsource.profiles.roofline import Replica

FEWEST_ATTEMPTS = 30  # answers that make a correction
FEWEST_TOKENS = 8  # of an answer whose pace is worth a measurement
_QUERY = """
SELECT model, chip, pool, replica, at_ns, duration_ns, first_token_ns, tokens_in, tokens_out FROM attempt
WHERE outcome = 'ok' AND streamed = 1 AND first_token_ns > 0 AND tokens_out >= ? AND duration_ns > first_token_ns
ORDER BY at_ns
"""


class MeasuredProfile(msgspec.Struct, frozen=True, kw_only=True):
    """What a pool did with a model, over the answers that were streamed to their end.

    Seconds are medians; `sequences` is the mean number of answers that ran at once on a replica.
    """

    model: str
    chip: str
    pool: str
    answers: int
    sequences: float
    input_tokens: float
    output_tokens: float
    first_s: float
    tpot_s: float
    tpot_s_p90: float
    tokens: int
    seconds: float  # from the first answer's start to the last one's end
    until_ns: int


class _Answer(msgspec.Struct, frozen=True):
    model: str
    chip: str
    pool: str
    replica: str
    at_ns: int
    duration_ns: int
    first_token_ns: int
    tokens_in: int
    tokens_out: int

    @property
    def tpot_s(self) -> float:
        """Mean time per output token without the first."""
        return (self.duration_ns - self.first_token_ns) / 1e9 / (self.tokens_out - 1)


def read_measured(path: Path) -> tuple[MeasuredProfile, ...]:
    """Return what a ledger says of each model, chip and pool, in the order of their names.

    Raises `InputError` where the file is no ledger.
    """
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            rows = connection.execute(_QUERY, (FEWEST_TOKENS,)).fetchall()
    except sqlite3.Error as error:
        raise InputError(f"{path}: not a readable ledger: {error}; give the ledger.sqlite3 of a state_dir") from None
    groups: dict[tuple[str, str, str], list[_Answer]] = {}
    for row in rows:
        answer = _Answer(*row)
        groups.setdefault((answer.model, answer.chip, answer.pool), []).append(answer)
    return tuple(_profile(group) for _, group in sorted(groups.items()))


def _profile(answers: Sequence[_Answer]) -> MeasuredProfile:
    paces = [answer.tpot_s for answer in answers]
    until = max(answer.at_ns + answer.duration_ns for answer in answers)
    return MeasuredProfile(
        model=answers[0].model,
        chip=answers[0].chip,
        pool=answers[0].pool,
        answers=len(answers),
        sequences=_mean_running(answers),
        input_tokens=sum(answer.tokens_in for answer in answers) / len(answers),
        output_tokens=sum(answer.tokens_out for answer in answers) / len(answers),
        first_s=median(answer.first_token_ns for answer in answers) / 1e9,
        tpot_s=median(paces),
        tpot_s_p90=quantiles(paces, n=10)[-1] if len(paces) > 1 else paces[0],
        tokens=sum(answer.tokens_out for answer in answers),
        seconds=(until - min(answer.at_ns for answer in answers)) / 1e9,
        until_ns=until,
    )


def _mean_running(answers: Iterable[_Answer]) -> float:
    """Return how many ran on the same replica at an answer's start, that answer included, on average."""
    starts: dict[str, list[int]] = {}
    ends: dict[str, list[int]] = {}
    for answer in answers:
        starts.setdefault(answer.replica, []).append(answer.at_ns)
        ends.setdefault(answer.replica, []).append(answer.at_ns + answer.duration_ns)
    running = 0
    count = 0
    for replica, begun in starts.items():
        over = sorted(ends[replica])
        running += sum(place + 1 - bisect_right(over, at) for place, at in enumerate(sorted(begun)))
        count += len(begun)
    return running / count


def ledger_corrections(
    profiles: Iterable[MeasuredProfile],
    replicas: Mapping[str, Replica],
    efficiencies: Efficiencies,
    upstream_models: Mapping[str, str] | None = None,
) -> tuple[Correction, ...]:
    """Return measured over predicted time per token, for pools whose replica is known, with what is left of error.

    `replicas` gives the chips of one replica by pool; `upstream_models` the model behind a pool's public name.
    Pools with too few answers, or with a model whose numbers nobody typed, give none. Of several pools of one
    model, chip and format the one with the most answers counts.
    """
    best: dict[tuple[str, str, str], tuple[int, Correction]] = {}
    for profile in profiles:
        replica = replicas.get(profile.pool)
        if replica is None or profile.answers < FEWEST_ATTEMPTS:
            continue
        try:
            model = one_model((upstream_models or {}).get(profile.pool, profile.model))
        except InputError:
            continue
        plain = speed(model, replica, efficiencies.without_corrections())
        predicted = plain.tpot_s(max(1.0, profile.sequences), profile.input_tokens, profile.output_tokens)
        spread = profile.tpot_s_p90 / profile.tpot_s - 1
        found = Correction(
            model=model.name,
            chip=replica.chip.name,
            precision=replica.precision,
            factor=profile.tpot_s / predicted,
            accuracy=Accuracy(median=spread / 2, p90=spread, points=profile.answers),
        )
        key = (found.model, found.chip, found.precision.value)
        if key not in best or best[key][0] < profile.answers:
            best[key] = (profile.answers, found)
    return tuple(best[key][1] for key in sorted(best))
