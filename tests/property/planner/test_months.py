"""Plans put together month by month keep every statement, and no plan costs less than the bound found beside them."""

import pytest
from hypothesis import HealthCheck, example, given, reject, settings
from hypothesis import strategies as st
from msgspec import structs

from secondsource.planner.bench_cases import scale_futures, scale_problem
from secondsource.planner.checker import check_plan
from secondsource.planner.model import build_model
from secondsource.planner.months import solve_by_months
from secondsource.planner.plan import read_plan
from secondsource.planner.projection import add_missed, project
from secondsource.planner.scenarios import Stakes, build_for_futures
from secondsource.planner.search import Found
from secondsource.planner.solve import Effort, Status, solve_linear, solve_whole

SLOW = settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@SLOW
@given(st.integers(0, 10_000), st.sampled_from([1, 2]))
def test_a_plan_by_months_keeps_the_spec(seed: int, threads: int) -> None:
    problem = scale_problem(24, 7, classes=3, suppliers=4, chips=3, size=0.01, seed=seed)
    ends_within = (structs.replace(r, term_months=3 if r.term_months == 12 else r.term_months) for r in problem.rentals)
    problem = structs.replace(problem, rentals=tuple(ends_within))
    model = build_model(problem)
    relaxation = solve_linear(model.sparse, Effort(seconds=60.0))
    projection = project(model, relaxation)
    if not relaxation.point:  # this market cannot serve the demand at all
        reject()
    assert projection is not None
    solution = solve_by_months(projection, relaxation, Effort(seconds=1.0, gap=0.02, threads=threads))
    assert solution.bound >= relaxation.bound * (1 - 1e-6)
    if not solution.point:  # a month can be left without a way on by the months before it
        reject()
    assert solution.objective >= solution.bound * (1 - 1e-6)
    found = Found(solution.point, solution.objective, solution.bound, relaxation, 0.0)
    plan = read_plan(problem, model, found)
    assert plan.total / 1e12 == pytest.approx(solution.objective, rel=1e-6)
    assert check_plan(problem, plan) == ()


@settings(SLOW, max_examples=8)
@given(st.integers(0, 10_000), st.booleans(), st.booleans())
def test_the_best_plan_costs_no_less_than_the_bound(seed: int, may_fall_short: bool, orders: bool) -> None:
    problem = scale_problem(12, 3, classes=2, suppliers=4, chips=3, size=0.002, seed=seed)
    if may_fall_short:
        lost = tuple(structs.replace(demand, shortfall_nano_usd=2_000_000) for demand in problem.demands)
        problem = structs.replace(problem, demands=lost)
    if orders:
        pairs = tuple(structs.replace(rental, min_units=2) for rental in problem.rentals)
        problem = structs.replace(problem, rentals=pairs, owed_after_horizon=0.5)
    model = build_model(problem)
    relaxation = solve_linear(model.sparse, Effort(seconds=60.0))
    projection = project(model, relaxation)
    best = solve_whole(model.sparse, Effort(seconds=5.0, gap=0.0))
    if not best.point or projection is None:
        reject()
    solution = solve_by_months(projection, relaxation, Effort(seconds=1.0, gap=0.0))
    assert relaxation.bound * (1 - 1e-6) <= solution.bound <= best.objective * (1 + 1e-6)


@SLOW
@example(106)  # a beam search took its time, and found one that was dearer
@given(st.integers(0, 10_000))
def test_a_single_month_is_solved_as_the_whole_model_is(seed: int) -> None:
    problem = scale_problem(12, 1, classes=2, suppliers=4, chips=3, size=0.004, seed=seed)
    model = build_model(problem)
    relaxation = solve_linear(model.sparse, Effort(seconds=60.0))
    projection = project(model, relaxation)
    best = solve_whole(model.sparse, Effort(seconds=5.0, gap=0.0))
    if best.status is not Status.OPTIMAL or projection is None:
        reject()
    solution = solve_by_months(projection, relaxation, Effort(seconds=5.0, gap=1e-4))
    assert solution.objective == pytest.approx(best.objective, rel=1e-4)
    assert solution.bound == pytest.approx(best.objective, rel=1e-3)


@SLOW
@given(st.integers(0, 10_000), st.data())
def test_units_miss_no_row_if_and_only_if_the_traffic_can_be_routed(seed: int, data: st.DataObject) -> None:
    problem = scale_problem(12, 2, classes=3, suppliers=4, chips=3, size=0.002, seed=seed)
    model = build_model(problem)
    relaxation = solve_linear(model.sparse, Effort(seconds=60.0))
    projection = project(model, relaxation)
    if projection is None:
        reject()
    units = {key: float(data.draw(st.integers(0, 1))) for key in model.variables.start}
    whole = model.sparse
    lower, upper = list(whole.column_lower), list(whole.column_upper)
    point = [0.0] * len(projection.sparse.cost)
    for (r, month), column in model.variables.active.items():
        since = range(max(0, month + 1 - max(1, model.term_months[r])), month + 1)
        lower[column] = upper[column] = sum(units[r, at] for at in since)
        point[projection.place[column]] = lower[column]
    for (r, month), column in model.variables.start.items():
        lower[column] = upper[column] = units[r, month]
    freed = whole.without(frozenset(f"suppliers.{cap.supplier}.max_share" for cap in problem.share_caps))
    freed = freed.without(frozenset(f"offers.{rental.key}.max_units" for rental in problem.rentals))
    freed.column_lower, freed.column_upper = lower, upper
    routable = bool(solve_linear(freed, Effort()).point)
    missed = 0
    for month in range(2):
        missed += any(cut.missed(point) for cut in projection.cuts[month])
        missed += add_missed(projection, month, point, exact=True)
    assert routable is (missed == 0)


def test_what_belongs_to_no_month_is_not_projected() -> None:
    problem = scale_problem(24, 4, classes=3, suppliers=4, chips=3, size=0.01)
    stakes = Stakes(futures=scale_futures(problem, 2), shortfall_nano_usd=(2_000_000,) * 3)
    model = build_for_futures(problem, stakes)
    relaxation = solve_linear(model.sparse, Effort(seconds=60.0))
    assert relaxation.point
    assert project(model, relaxation) is None
