"""Deciding first which smallest orders are placed: no plan costs less than its bound, and what is left is a plan."""

from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from msgspec import structs

from secondsource.planner.bench_cases import scale_problem
from secondsource.planner.checker import check_plan
from secondsource.planner.model import Model, build_model
from secondsource.planner.orders import Placed, place_orders
from secondsource.planner.plan import read_plan
from secondsource.planner.problem import Problem
from secondsource.planner.search import Found
from secondsource.planner.solve import Effort, Solution, Status, solve_linear, solve_whole

SLOW = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
EFFORT = Effort(seconds=10.0, gap=0.03, threads=1)


def _lots(problem: Problem, units: int, chip: str) -> Problem:
    """Return the problem with the chip's terms in orders of so many units at least."""
    rentals = (structs.replace(r, min_units=units) if r.chip == chip and r.term_months else r for r in problem.rentals)
    return structs.replace(problem, rentals=tuple(rentals))


def _placed(problem: Problem) -> tuple[Model, Solution, Placed]:
    """Return a problem's orders as they are placed; an example that has none, or no plan, does not count."""
    model = build_model(problem)
    relaxation = solve_linear(model.sparse, Effort(threads=1))
    if relaxation.status is not Status.OPTIMAL or not model.variables.ordered:
        reject()
    placed = place_orders(Placed(model, relaxation, relaxation, relaxation.bound), EFFORT, lambda _: None)
    if placed is None:
        reject()
    return model, relaxation, placed


@SLOW
@given(st.integers(0, 10_000), st.integers(2, 12), st.sampled_from(["chip-0", "chip-1"]))
def test_no_plan_costs_less_than_the_bound(seed: int, units: int, chip: str) -> None:
    problem = _lots(scale_problem(12, 3, classes=2, suppliers=4, chips=3, size=0.002, seed=seed), units, chip)
    model, relaxation, placed = _placed(problem)
    assert placed.bound >= relaxation.bound * (1 - 1e-6)
    best = solve_whole(model.sparse, Effort(seconds=10.0, gap=0.0))
    if best.status is not Status.OPTIMAL:
        reject()
    assert placed.bound <= best.objective * (1 + 1e-6)


@SLOW
@given(st.integers(0, 10_000), st.integers(2, 12), st.sampled_from(["chip-0", "chip-1"]))
def test_what_is_left_is_a_plan_of_the_whole(seed: int, units: int, chip: str) -> None:
    problem = _lots(scale_problem(12, 3, classes=2, suppliers=4, chips=3, size=0.002, seed=seed), units, chip)
    model, relaxation, placed = _placed(problem)
    assert not placed.model.orders_open
    solution = solve_whole(placed.model.sparse, Effort(seconds=5.0, gap=0.01))
    if not solution.point:
        reject()
    found = Found(solution.point, solution.objective, placed.bound, relaxation, 0.0)
    assert check_plan(problem, read_plan(problem, model, found)) == ()
