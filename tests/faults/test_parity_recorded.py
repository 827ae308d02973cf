"""Faults seeded into real engines, as recorded, are found within 200 probes and named; no clean run raises an alarm.

`python -m tests.parity_sources.record` made the recordings and says of what.
"""

from random import Random

import pytest

from secondsource.core.parity_record import Ruling
from secondsource.parity.comparison import Exchange, compare
from secondsource.parity.diagnosis import CauseName, causes_of
from secondsource.parity.judging import Judge
from secondsource.parity.probes import make_probe
from tests.parity_sources.recordings import drifted, recorded, without_logprobs

PUBLISHED_DRIFT = 0.064  # nats, at most, between one model in bf16 on H100 and on TPU
CLEAN_RUNS = 50


def replay(exchanges: list[Exchange]) -> Judge:
    judge = Judge(logprobs=True)
    for exchange in exchanges:
        judge.take(compare(make_probe(exchange.kind, exchange.number, 40), exchange))
    return judge


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("4-bit-weights", CauseName.WEIGHTS),
        ("other-template", CauseName.TEMPLATE),
        ("lost-system-prompt", CauseName.TEMPLATE),
        ("no-bos", CauseName.BOS),
        ("rope-base", CauseName.POSITIONS),
        ("smaller-context", CauseName.CONTEXT),
        ("cut-context", CauseName.CONTEXT),
        ("always-temperature-0", CauseName.TEMPERATURE),
        ("always-temperature-1", CauseName.TEMPERATURE),
        ("other-model", CauseName.MODEL),
    ],
)
def test_a_seeded_fault_is_found_and_named(name: str, cause: CauseName) -> None:
    exchanges = recorded(name)
    judge = replay(exchanges)
    assert judge.ruling is Ruling.NOT_AT_PAR
    assert len(exchanges) <= 200
    assert causes_of(judge)[0].name is cause


@pytest.mark.parametrize("name", ["same", "other-batches"])
def test_a_clean_run_is_at_par(name: str) -> None:
    assert replay(recorded(name)).ruling is Ruling.AT_PAR


def test_fifty_clean_runs_with_as_much_drift_as_between_chips_raise_no_alarm() -> None:
    exchanges = recorded("same")
    for seed in range(CLEAN_RUNS):
        chance = Random(seed)
        judge = replay([drifted(exchange, chance, PUBLISHED_DRIFT) for exchange in exchanges])
        assert judge.ruling is Ruling.AT_PAR, seed
        assert not judge.alarms


def test_the_replay_could_fail_drift_of_many_times_that_size_alarms() -> None:
    exchanges = recorded("same")
    assert replay([drifted(one, Random(1), 8 * PUBLISHED_DRIFT) for one in exchanges]).alarms


@pytest.mark.parametrize(
    ("name", "ruling"),
    [
        ("same", Ruling.AT_PAR),
        ("other-batches", Ruling.AT_PAR),
        ("4-bit-weights", Ruling.NOT_AT_PAR),
        ("other-model", Ruling.NOT_AT_PAR),
        ("smaller-context", Ruling.NOT_AT_PAR),
        ("always-temperature-0", Ruling.NOT_AT_PAR),
    ],
)
def test_texts_alone_tell_too(name: str, ruling: Ruling) -> None:
    judge = Judge(logprobs=False)
    for exchange in recorded(name):
        judge.take(compare(make_probe(exchange.kind, exchange.number, 40), without_logprobs(exchange)))
    assert judge.ruling is ruling
