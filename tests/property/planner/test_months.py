"""Plans put together month by month keep every statement, and cost no less than the relaxation says."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from secondsource.planner.bench_cases import scale_futures, scale_problem
from secondsource.planner.checker import check_plan
from secondsource.planner.model import build_model
from secondsource.planner.months import cut, solve_by_months
from secondsource.planner.plan import read_plan
from secondsource.planner.scenarios import Stakes, build_for_futures
from secondsource.planner.search import Found
from secondsource.planner.solve import Effort, solve_linear


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 10_000))
def test_a_plan_by_months_keeps_the_spec(seed: int) -> None:
    problem = scale_problem(24, 4, classes=3, suppliers=4, chips=3, size=0.01, seed=seed)
    model = build_model(problem)
    relaxation = solve_linear(model.sparse, Effort(seconds=60.0))
    months = cut(model, relaxation)
    if not relaxation.point:  # this market cannot serve the demand at all
        return
    assert months is not None
    solution = solve_by_months(months, Effort(seconds=60.0, gap=0.02))
    if not solution.point:  # a month can be left without a way on by the months before it
        return
    assert solution.objective >= relaxation.bound * (1 - 1e-6)
    found = Found(solution.point, solution.objective, relaxation.bound, relaxation, 0.0)
    plan = read_plan(problem, model, found)
    assert plan.total / 1e12 == pytest.approx(solution.objective, rel=1e-6)
    assert check_plan(problem, plan) == ()


def test_what_belongs_to_no_month_is_not_cut() -> None:
    problem = scale_problem(24, 4, classes=3, suppliers=4, chips=3, size=0.01)
    stakes = Stakes(futures=scale_futures(problem, 2), shortfall_nano_usd=(2_000_000,) * 3)
    model = build_for_futures(problem, stakes)
    relaxation = solve_linear(model.sparse, Effort(seconds=60.0))
    assert relaxation.point
    assert cut(model, relaxation) is None
