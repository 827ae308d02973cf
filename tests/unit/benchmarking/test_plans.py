"""The planner's benchmark: its verdicts and its page."""

import pytest

from secondsource.benchmarking.markdown import Setting
from secondsource.benchmarking.plans import Beside, Scale, beside_in_words, judge_plans, plans_section


def case(ours: float, theirs: float) -> Beside:
    return Beside(seed=0, melange_usd_per_hour=theirs, melange_seconds=0.5, usd_per_hour=ours, gap=0.0, seconds=0.25)


def scale(usd: float | None, gap: float | None, seconds: float, futures: int = 0, sound: bool | None = True) -> Scale:
    return Scale(offers=300, months=24, futures=futures, usd=usd, gap=gap, seconds=seconds, sound=sound)


def test_cases_are_counted_where_costs_differ_by_more_than_rounding() -> None:
    words = beside_in_words([case(9.0, 10.0), case(10.000001, 10.0), case(10.0, 10.0)])
    assert words.startswith(
        "Beside Mélange's formulation on 3 cases: cheaper in 1, dearer in 0; cost ratio median 1.0000"
    )
    assert judge_plans([case(10.1, 10.0)], [])[0].held is False


@pytest.mark.parametrize(
    ("row", "held"),
    [
        (scale(2e8, 0.01, 30.0), True),
        (scale(2e8, 0.011, 3.0), False),  # from $100M on 1% is asked
        (scale(2e7, 0.029, 29.0), True),
        (scale(2e7, 0.029, 31.0), False),
        (scale(2e6, 0.002, 1.0), False),  # below $10M 0.1%
        (scale(2e8, 0.009, 200.0, futures=20), True),
        (scale(2e8, 0.009, 2.0, sound=False), False),
        (scale(None, None, 30.0, sound=None), False),
    ],
)
def test_a_plan_holds_by_its_size_its_time_and_its_checker(row: Scale, held: bool) -> None:
    (verdict,) = judge_plans([], [row])
    assert verdict.held is held


def test_the_section_names_the_command_and_every_row() -> None:
    setting = Setting(date="2026-11-23", machine="a machine", command="secondsource bench plan")
    page = plans_section([case(9.0, 10.0)], [scale(2e8, 0.004, 5.0), scale(None, None, 30.0, sound=None)], setting)
    assert "secondsource bench plan" in page
    assert "| 300 | 24 | 0 | $200.0M | 0.40% | 5.0 | sound |" in page
    assert "| 300 | 24 | 0 | none in time |  | 30.0 |  |" in page
    assert "| 300 × 24, $200M: a gap of 1.0% in 30 s | 0.40% in 5.0 s | yes |" in page
