"""A shadow price is what re-planning with a little more room really saves."""

import msgspec
import pytest

from secondsource.planner.bench_cases import scale_problem
from secondsource.planner.certificate import price_statements
from secondsource.planner.model import build_model
from secondsource.planner.problem import Limit, Problem
from secondsource.planner.search import Found
from secondsource.planner.solve import Effort, solve_linear


def relaxed(problem: Problem) -> Found:
    solution = solve_linear(build_model(problem).sparse, Effort())
    return Found(solution.point, solution.objective, solution.objective, solution, 0.0)


def priced(problem: Problem, statement: str) -> float:
    found = relaxed(problem)
    prices = price_statements(problem, build_model(problem), found)
    return sum(price.usd_per_year for price in prices if price.statement == statement)


@pytest.fixture
def problem() -> Problem:
    return scale_problem(40, 12, classes=3, suppliers=4, chips=4, size=0.2, seed=3)


def test_a_point_of_share_saves_what_its_price_says(problem: Problem) -> None:
    prices = {cap.supplier: priced(problem, f"suppliers.{cap.supplier}.max_share") for cap in problem.share_caps}
    supplier = max(prices, key=lambda name: prices[name])
    assert prices[supplier] > 0
    step = 0.001
    wider = msgspec.structs.replace(
        problem,
        share_caps=tuple(
            msgspec.structs.replace(cap, max_share=cap.max_share + (step if cap.supplier == supplier else 0.0))
            for cap in problem.share_caps
        ),
    )
    saved = (relaxed(problem).objective - relaxed(wider).objective) * 1000
    assert saved == pytest.approx(prices[supplier] * step / 0.01, rel=0.05)


def test_a_chip_more_saves_what_its_price_says(problem: Problem) -> None:
    free = relaxed(problem)
    model = build_model(problem)
    use: dict[str, float] = {}
    for (r, month), column in model.variables.active.items():
        chip = problem.rentals[r].chip
        if month == 11:
            use[chip] = use.get(chip, 0.0) + free.point[column] * problem.rentals[r].chips_per_unit
    chip = max(use, key=lambda name: use[name])
    keys = tuple(rental.key for rental in problem.rentals if rental.chip == chip)

    def limited(chips: int) -> Problem:
        return msgspec.structs.replace(problem, limits=(Limit(key="limits.0", rentals=keys, max_chips=(chips,) * 12),))

    tight = int(use[chip] * 0.9)
    saved = (relaxed(limited(tight)).objective - relaxed(limited(tight + 1)).objective) * 1000
    assert saved > 0
    assert saved == pytest.approx(priced(limited(tight), "limits.0"), rel=0.05)
