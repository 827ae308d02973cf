"""The judge asks what it still has to know, stops when it knows, and rules by what it has seen."""

from collections import Counter
from typing import Any

import pytest

from secondsource.core.parity_record import Ruling
from secondsource.parity.judging import NEEDED, Judge
from secondsource.parity.probes import RAW, Kind
from tests.unit.parity.answers import comparison, judged


def of_every(**changes: Any) -> dict[Kind, dict[str, Any]]:
    return dict.fromkeys(Kind, changes)


def test_a_pool_without_fault_is_at_par_once_every_kind_was_seen() -> None:
    judge = judged(200, {})
    assert judge.ruling is Ruling.AT_PAR
    assert set(Counter(found.kind for found in judge.comparisons)) == set(Kind)
    assert len(judge.comparisons) < 100
    assert not judge.untested()


def test_half_way_there_is_not_enough_evidence() -> None:
    judge = judged(30, {})
    assert judge.ruling is Ruling.NOT_ENOUGH_EVIDENCE
    assert not judge.is_done


def test_after_an_alarm_it_goes_on_until_a_cause_can_be_told() -> None:
    judge = judged(200, of_every(gap=1.0))
    assert judge.ruling is Ruling.NOT_AT_PAR
    assert len(judge.comparisons) == 36
    assert min(Counter(found.kind for found in judge.comparisons).values()) == 4


@pytest.mark.parametrize(
    ("changes", "alarm"),
    [
        ({Kind.LONG: {"gap": 0.3}}, "departs: long"),
        ({Kind.LONG: {"answered": (False, True), "refused": "too long", "spots": ()}}, "refuses: long"),
        ({Kind.JSON: {"valid": (False, True)}}, "invalid: json"),
        ({Kind.TOOLS: {"valid": (False, True)}}, "invalid: tools"),
        ({Kind.SAMPLING: {"one_voiced": (True, False)}}, "temperature: sampling"),
        (of_every(strays=True), "strays"),
        ({Kind.ENDINGS: {"answer_tokens": (48, 9)}}, "longer: endings"),
        ({Kind.ENDINGS: {"answer_tokens": (2, 9)}}, "shorter: endings"),
    ],
)
def test_each_fault_raises_its_own_alarm_within_200_probes(changes: dict[Kind, dict[str, Any]], alarm: str) -> None:
    judge = judged(200, changes)
    assert alarm in judge.alarms
    assert judge.ruling is Ruling.NOT_AT_PAR


def test_texts_are_judged_where_there_are_no_log_probabilities() -> None:
    bare: dict[str, Any] = {"spots": (), "strays": None}
    alike = judged(200, of_every(**bare, same_text=True), logprobs=False)
    assert alike.ruling is Ruling.AT_PAR
    unlike = judged(200, of_every(**bare, same_text=False), logprobs=False)
    assert unlike.alarms == ("differs",)


def test_what_the_other_pool_does_not_do_is_given_up_and_told() -> None:
    nothing: dict[str, Any] = {"answered": (False, False), "spots": (), "strays": None, "valid": None}
    judge = judged(200, {Kind.TOOLS: {"valid": (False, False)}} | dict.fromkeys(RAW, nothing))
    assert judge.untested() == RAW | {Kind.TOOLS}
    assert judge.ruling is Ruling.AT_PAR


@pytest.mark.parametrize("kind", sorted(NEEDED))
def test_without_what_is_needed_there_is_no_parity(kind: Kind) -> None:
    nothing: dict[str, Any] = {"answered": (False, False), "spots": (), "strays": None, "answer_tokens": None}
    assert judged(200, {kind: nothing}).ruling is Ruling.NOT_ENOUGH_EVIDENCE


def test_no_answer_at_all_is_no_evidence() -> None:
    judge = Judge(logprobs=True)
    assert judge.ruling is Ruling.NOT_ENOUGH_EVIDENCE
    for kind in Kind:
        judge.take(comparison(kind, answered=(False, False), spots=(), valid=None, one_voiced=None))
    assert judge.ruling is Ruling.NOT_ENOUGH_EVIDENCE
