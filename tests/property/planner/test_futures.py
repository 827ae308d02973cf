"""The model over futures and the trial of its plan are two pieces of code: they must agree on what it costs."""

import msgspec
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from secondsource.planner.bench_cases import scale_problem
from secondsource.planner.checker import check_plan
from secondsource.planner.futures import draw_futures, months_in_service
from secondsource.planner.model import build_model
from secondsource.planner.plan import read_plan
from secondsource.planner.problem import Problem, Rental
from secondsource.planner.scenarios import Stakes, build_for_futures, foresee, try_plan
from secondsource.planner.search import Target, search
from secondsource.planner.spec import DeliverySpec, FuturesSpec


def small(seed: int) -> Problem:
    problem = scale_problem(6, 4, classes=2, suppliers=3, chips=3, size=0.02, seed=seed)
    return msgspec.structs.replace(problem, share_caps=(), losses=problem.losses[:1], owed_after_horizon=0.5)


def stakes_for(problem: Problem, risk: float, seed: int) -> Stakes:
    late = DeliverySpec(chip=problem.rentals[0].chip, supplier=None, first_month=0, slips_months=(0, 1, 3))
    futures = draw_futures(problem, FuturesSpec(), (late,), 5, seed)
    return Stakes(futures=futures, shortfall_nano_usd=(3_000_000, 5_000_000), risk=risk)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.5, 2.0]), st.integers(0, 100))
def test_what_was_minimised_is_what_the_trial_finds(seed: int, risk: float, draw: int) -> None:
    problem = small(seed)
    stakes = stakes_for(problem, risk, draw)
    model = build_for_futures(problem, stakes)
    found = search(model, Target(gap=0.001, seconds=10.0))
    assume(found is not None and len(found.point) > 0)
    assert found is not None
    plan = read_plan(problem, model, found, over_futures=True)
    assert check_plan(problem, plan) == ()
    trial = try_plan("plan", problem, plan.starts, stakes, lambda _: None)
    minimised = trial.mean_usd + risk * trial.worst_fifth_usd  # of five futures, the worst fifth is one
    assert found.objective * 1000 == pytest.approx(minimised, rel=2e-3)


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 10_000))
def test_foresight_is_never_dearer_and_planning_for_futures_never_worse(seed: int) -> None:
    problem = small(seed)
    stakes = stakes_for(problem, 0.0, seed)
    plain_model = build_model(problem)
    plain_found = search(plain_model, Target(gap=0.0001, seconds=10.0))
    assume(plain_found is not None and len(plain_found.point) > 0)
    assert plain_found is not None
    plain = read_plan(problem, plain_model, plain_found)
    model = build_for_futures(problem, stakes)
    found = search(model, Target(gap=0.0001, seconds=10.0))
    assert found is not None
    over = read_plan(problem, model, found, over_futures=True)
    quiet = lambda _: None  # noqa: E731 -- nobody listens
    plain_cost = try_plan("plain", problem, plain.starts, stakes, quiet).mean_usd
    over_cost = try_plan("over", problem, over.starts, stakes, quiet).mean_usd
    assert over_cost <= plain_cost * (1 + 3e-4)
    assert foresee(problem, stakes, quiet).mean_usd <= over_cost * (1 + 3e-4)


def rental(term: int, first: int) -> Rental:
    return Rental(
        key="o",
        pool="p",
        supplier="s",
        vendor="v",
        chip="c",
        chips_per_unit=8,
        term_months=term,
        nano_usd_per_unit_hour=1,
        first_month=first,
    )


@pytest.mark.parametrize(
    ("term", "first", "start", "slip", "months"),
    [
        (0, 0, 3, 0, [3]),
        (0, 2, 3, 3, []),
        (12, 2, 2, 3, [5, 6, 7, 8, 9]),
        (3, 2, 4, 1, [4, 5, 6]),
        (3, 2, 2, 9, []),
    ],
)
def test_a_slip_moves_a_term_and_voids_a_month(term: int, first: int, start: int, slip: int, months: list[int]) -> None:
    assert list(months_in_service(rental(term, first), start, slip, 10)) == months


def test_the_same_seed_draws_the_same_futures() -> None:
    problem = small(1)
    assert stakes_for(problem, 0.0, 4).futures == stakes_for(problem, 0.0, 4).futures
    assert stakes_for(problem, 0.0, 4).futures != stakes_for(problem, 0.0, 5).futures
