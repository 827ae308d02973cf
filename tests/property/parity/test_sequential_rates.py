"""The rates that the sequential tests promise: exactly for one test, by simulation for a whole run."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secondsource.core.parity_record import Ruling
from secondsource.parity.comparison import Comparison, Spot
from secondsource.parity.judging import FALSE_ALARM, Judge
from secondsource.parity.probes import STRUCTURED, Kind
from secondsource.parity.sequential import Decision, Evidence, Hypotheses, after

shares = st.floats(0.005, 0.9)
risks = st.floats(0.0001, 0.2)
RUNS = 100


def decided(hypotheses: Hypotheses, share: float, probes: int) -> Counter[Decision]:
    """Return the exact probability of each decision within so many probes of which `share` tell against the pool."""
    ended: Counter[Decision] = Counter()
    open_now = {Evidence(): 1.0}
    for _ in range(probes):
        following: dict[Evidence, float] = {}
        merged: Counter[tuple[int, int]] = Counter()
        first: dict[tuple[int, int], Evidence] = {}
        for evidence, chance in open_now.items():
            for hit, part in ((True, share), (False, 1 - share)):
                found = after(evidence, hypotheses, hit=hit)
                if found.decision is Decision.OPEN:
                    merged[found.seen, found.hits] += chance * part
                    first.setdefault((found.seen, found.hits), found)
                else:
                    ended[found.decision] += chance * part
        following = {first[key]: chance for key, chance in merged.items()}
        open_now = following
    return ended


@settings(max_examples=25)
@given(shares, st.floats(1.2, 9.0), risks, risks, st.floats(0, 1))
def test_neither_error_is_likelier_than_stated(
    at_par: float, times: float, alpha: float, beta: float, within: float
) -> None:
    faulty = min(at_par * times, 0.98)
    hypotheses = Hypotheses(at_par=at_par, faulty=faulty, alpha=alpha, beta=beta)
    fine = decided(hypotheses, at_par * within, 80)
    assert fine[Decision.ALARMED] <= alpha * (1 + 1e-9)
    bad = decided(hypotheses, faulty + (1 - faulty) * within, 80)
    assert bad[Decision.ACCEPTED] <= beta * (1 + 1e-9)


def test_a_decision_stands() -> None:
    hypotheses = Hypotheses(at_par=0.02, faulty=0.5, alpha=0.001, beta=0.01)
    evidence = Evidence()
    for _ in range(7):
        evidence = after(evidence, hypotheses, hit=False)
    assert evidence.decision is Decision.ACCEPTED
    for _ in range(50):
        evidence = after(evidence, hypotheses, hit=True)
    assert (evidence.decision, evidence.seen, evidence.hits) == (Decision.ACCEPTED, 57, 50)


def simulated(chance: Random, departing: float, kinds: frozenset[Kind] = frozenset(Kind)) -> Judge:
    """Return the judge of a run in which a share of the probes of some kinds depart, and nothing else is wrong."""
    judge = Judge(logprobs=True)
    while len(judge.comparisons) < 200 and not judge.is_done:
        kind, number = judge.next_probe()
        departs = kind in kinds and chance.random() < departing
        judge.take(
            Comparison(
                kind=kind,
                number=number,
                replica="a",
                answered=(True, True),
                spots=(Spot(0, True, 0.5 if departs else 0.05, 0.0),),
                strays=False,
                valid=(True, True) if kind in STRUCTURED else None,
                one_voiced=(chance.random() < 0.1, False) if kind is Kind.SAMPLING else None,
                answer_tokens=(9, 9),
            )
        )
    return judge


@pytest.mark.parametrize("departing", [0.0, 0.01, 0.02])
def test_clean_runs_raise_no_alarm(departing: float) -> None:
    rulings = Counter(simulated(Random(seed), departing).ruling for seed in range(RUNS))
    assert rulings[Ruling.NOT_AT_PAR] <= max(0, round(RUNS * FALSE_ALARM))
    assert rulings[Ruling.AT_PAR] >= 0.9 * RUNS


@pytest.mark.parametrize("departing", [0.15, 0.3, 1.0])
def test_a_fault_in_every_kind_is_found_within_200_probes(departing: float) -> None:
    rulings = Counter(simulated(Random(seed), departing).ruling for seed in range(RUNS))
    assert rulings[Ruling.NOT_AT_PAR] >= 0.97 * RUNS
    assert rulings[Ruling.AT_PAR] <= 0.02 * RUNS


@pytest.mark.parametrize("kind", [Kind.LANGUAGES, Kind.LONG])
def test_a_fault_in_one_kind_alone_is_found(kind: Kind) -> None:
    rulings = Counter(simulated(Random(seed), 0.8, frozenset({kind})).ruling for seed in range(RUNS))
    assert rulings[Ruling.NOT_AT_PAR] >= 0.98 * RUNS
