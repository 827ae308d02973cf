"""The beam search over random cases: what it finds keeps every row, can be routed, and costs what it says it loses."""

import math
from dataclasses import replace

import numpy
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from msgspec import structs

from secondsource.planner.beam import Starts, find_starts
from secondsource.planner.bench_cases import scale_problem
from secondsource.planner.checker import check_plan
from secondsource.planner.ground import Ground, lay_out
from secondsource.planner.model import Model, build_model
from secondsource.planner.plan import Start, read_plan, units_in_service
from secondsource.planner.problem import Limit, Problem
from secondsource.planner.projection import Projection, project
from secondsource.planner.search import Found, Target, search
from secondsource.planner.solve import Effort, Solution, Status, solve_linear

SLOW = settings(max_examples=10, deadline=None)


def _problem(seed: int, months: int = 4) -> Problem:
    return scale_problem(24, months, classes=2, suppliers=4, chips=4, size=0.004, seed=seed)


def _relaxed(problem: Problem) -> tuple[Model, Solution, Projection]:
    """Return what a search starts from; an example that has none does not count."""
    model = build_model(problem)
    relaxation = solve_linear(model.sparse, Effort(threads=1))
    projection = project(model, relaxation)
    if relaxation.status is not Status.OPTIMAL or projection is None:
        reject()
    return model, relaxation, projection


def _found(projection: Projection, relaxation: Solution, width: int) -> tuple[Ground, Starts]:
    """Return what is found; an example in which nothing is does not count."""
    ground = lay_out(projection, relaxation)
    starts = find_starts(ground, width, math.inf, lambda _: None)
    if starts is None:
        reject()
    return ground, starts


@SLOW
@given(st.integers(0, 10_000), st.booleans(), st.booleans(), st.sampled_from([1, 5]))
def test_starts_that_are_found_keep_the_spec(seed: int, may_fall_short: bool, limited: bool, width: int) -> None:
    problem = _problem(seed)
    if may_fall_short:
        lost = tuple(structs.replace(demand, shortfall_nano_usd=2_000_000) for demand in problem.demands)
        problem = structs.replace(problem, demands=lost)
    if limited:
        keys = tuple(rental.key for rental in problem.rentals if rental.supplier == "supplier-0")
        problem = structs.replace(problem, limits=(Limit(key="limits.0", rentals=keys, max_chips=(8, 8, 16, 16)),))
    model, relaxation, projection = _relaxed(problem)
    ground, starts = _found(projection, relaxation, width)
    point = ground.point(starts)
    for row in range(len(projection.sparse.tags)):
        activity = projection.sparse.activity(row, point)
        assert activity >= projection.sparse.row_lower[row] - 1e-6, projection.sparse.tags[row]
        assert activity <= projection.sparse.row_upper[row] + 1e-6, projection.sparse.tags[row]
    lower, upper = list(model.sparse.column_lower), list(model.sparse.column_upper)
    for (r, month), column in model.variables.start.items():
        lower[column] = upper[column] = float(starts[month, r])
    routed = solve_linear(replace(model.sparse, column_lower=lower, column_upper=upper), Effort(threads=1))
    assert routed.status is Status.OPTIMAL
    plan = read_plan(problem, model, Found(routed.point, routed.objective, relaxation.bound, relaxation, 0.0))
    assert check_plan(problem, plan) == ()


@SLOW
@given(st.integers(0, 10_000))
def test_what_is_lost_is_what_a_plan_costs_above_the_relaxation(seed: int) -> None:
    problem = _problem(seed)
    _, relaxation, projection = _relaxed(problem)
    ground, starts = _found(projection, relaxation, 1)
    units = ground.in_service(starts)
    lost = 0.0
    for month, rows in enumerate(ground.months):
        started = starts[month] > 0
        lost += float(starts[month][started] @ rows.loss[started])
        lost += float((rows.rates @ units[month] - rows.asked) @ rows.prices)
    bounded = sum(  # an offer's units that are capped lose what the cap's price says, and no row stands for it here
        projection.sparse.row_upper[row] * relaxation.prices[projection.source[row]]
        - projection.sparse.activity(row, ground.point(starts)) * relaxation.prices[projection.source[row]]
        for row, tag in enumerate(projection.sparse.tags)
        if tag.family == "availability"
    )
    cost = sum(value * at for value, at in zip(projection.sparse.cost, ground.point(starts), strict=True))
    assert cost == pytest.approx(relaxation.bound + lost - bounded, rel=1e-6)


@given(st.integers(0, 1000), st.data())
@settings(max_examples=20, deadline=None)
def test_units_are_in_service_for_their_term(seed: int, data: st.DataObject) -> None:
    problem = _problem(seed, months=14)
    _, relaxation, projection = _relaxed(problem)
    starts = numpy.zeros((14, len(problem.rentals)), dtype=numpy.int64)
    for _ in range(6):
        starts[data.draw(st.integers(0, 13)), data.draw(st.integers(0, len(problem.rentals) - 1))] += 1
    units = lay_out(projection, relaxation).in_service(starts)
    said = tuple(
        Start(offer=problem.rentals[r].key, month=month, units=int(starts[month, r]))
        for month, r in numpy.argwhere(starts).tolist()
    )
    for r, rental in enumerate(problem.rentals):
        assert units_in_service(problem, said)[rental.key] == [round(value) for value in units[:, r]]


def test_a_plan_is_there_however_little_time_there_is() -> None:
    problem = scale_problem(60, 12, classes=4, suppliers=4, chips=6, size=0.004, seed=3)
    model = build_model(problem)
    found = search(model, Target(seconds=0.5))
    assert found is not None
    assert check_plan(problem, read_plan(problem, model, found)) == ()
    assert 0 <= found.gap < 1  # how near it comes depends on how much of the processor there is
