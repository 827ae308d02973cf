import msgspec
import pytest

from secondsource.planner.bench_cases import scale_problem
from secondsource.planner.dominance import drop_dominated
from secondsource.planner.model import build_model
from secondsource.planner.problem import Problem, Rental
from secondsource.planner.solve import Effort, solve_linear


def rental(key: str, price: int, **changes: object) -> Rental:
    base = Rental(
        key=key,
        pool="azure/h100 x8",
        supplier="azure",
        vendor="nvidia",
        chip="h100",
        chips_per_unit=8,
        term_months=0,
        nano_usd_per_unit_hour=price,
    )
    return msgspec.structs.replace(base, **changes)


def kept(*rentals: Rental) -> list[str]:
    problem = Problem(months=("2027-01",), hours=(744,), rentals=rentals, demands=(), rates={"azure/h100 x8": (1.0,)})
    return [each.key for each in drop_dominated(problem).rentals]


def test_the_dearer_of_two_alike_goes() -> None:
    assert kept(rental("a", 5), rental("b", 6)) == ["a"]


def test_what_is_given_back_sooner_at_no_more_cost_stands_in_for_a_term() -> None:
    assert kept(rental("a", 5), rental("b", 5, term_months=12)) == ["a"]
    assert kept(rental("a", 6), rental("b", 5, term_months=12)) == ["a", "b"]


@pytest.mark.parametrize("changes", [{"max_units": 4}, {"min_units": 8}, {"first_month": 1}, {"firm": False}])
def test_what_is_limited_later_or_spot_stands_in_for_nothing_better(changes: dict[str, object]) -> None:
    assert kept(rental("a", 5, **changes), rental("b", 6)) == ["a", "b"]


def test_units_held_stay() -> None:
    assert kept(rental("a", 5), rental("b", 6, held=(3,))) == ["a", "b"]


@pytest.mark.parametrize("seed", range(4))
def test_dropping_costs_nothing(seed: int) -> None:
    problem = scale_problem(40, 6, classes=3, suppliers=3, chips=3, seed=seed)
    problem = msgspec.structs.replace(problem, share_caps=())
    less = drop_dominated(problem)
    assert len(less.rentals) < len(problem.rentals)
    whole, part = (solve_linear(build_model(each).sparse, Effort()).objective for each in (problem, less))
    assert part == pytest.approx(whole, rel=1e-6)
