"""Small random problems, solved by trying everything: the planner must find the same cost."""

import itertools
import math

import msgspec
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from secondsource.planner.checker import check_plan
from secondsource.planner.model import build_model
from secondsource.planner.plan import Start, count_costs, read_plan, units_in_service
from secondsource.planner.problem import Demand, Limit, Loss, LossKind, Problem, Rental, ShareCap
from secondsource.planner.search import Target, search

MOST = 3  # units tried of each offer in each month


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    months = draw(st.integers(1, 2))
    rentals = []
    rates = {}
    for number in range(draw(st.integers(1, 3 if months == 1 else 2))):
        supplier = draw(st.sampled_from(["azure", "oci"]))
        vendor = draw(st.sampled_from(["nvidia", "google"]))
        pool = f"{supplier}/{vendor}-{number}"
        rentals.append(
            Rental(
                key=f"offer-{number}",
                pool=pool,
                supplier=supplier,
                vendor=vendor,
                chip=f"{vendor}-{number}",
                chips_per_unit=draw(st.sampled_from([1, 8])),
                term_months=draw(st.sampled_from([0, 1, 2, 3])),
                nano_usd_per_unit_hour=draw(st.integers(1, 9)) * 1_000_000_000,
                first_month=draw(st.sampled_from([0, 0, 0, months - 1])),
                max_units=draw(st.sampled_from([1, 2, MOST, MOST])),
                min_units=draw(st.sampled_from([0, 0, 0, 2])),
                firm=draw(st.sampled_from([True, True, False])),
                held=draw(st.sampled_from([(), tuple(range(months))])),
            )
        )
        rates[pool] = tuple(float(draw(st.sampled_from([0, 2, 3, 5]))) for _ in range(2))
    demands = tuple(
        Demand(
            key=f"lane{d}/c",
            lane=f"lane{d}",
            size_class="c",
            model="m",
            peak=tuple(float(draw(st.integers(0, 5))) for _ in range(months)),
            survive=draw(st.sampled_from([0.0, 0.3, 1.0])),
        )
        for d in range(2)
    )
    losses = draw(
        st.sampled_from(
            [
                (),
                (Loss(kind=LossKind.SUPPLIER, name="azure"),),
                (
                    Loss(kind=LossKind.SUPPLIER, name="azure"),
                    Loss(kind=LossKind.SUPPLIER, name="oci"),
                    Loss(kind=LossKind.VENDOR, name="nvidia"),
                ),
            ]
        )
    )
    caps = draw(st.sampled_from([(), (), (ShareCap(supplier="azure", max_share=0.6),)]))
    limits = draw(st.sampled_from([(), (Limit(key="limits.all", rentals=("offer-0",), max_chips=(16,) * months),)]))
    return Problem(
        months=("2027-01", "2027-02")[:months],
        hours=(744, 672)[:months],
        rentals=tuple(rentals),
        demands=demands,
        rates=rates,
        losses=losses,
        share_caps=caps,
        limits=limits,
        budget_nano_usd=draw(st.sampled_from([(), (), (12_000 * 10**9,) * months])),
        owed_after_horizon=draw(st.sampled_from([0.0, 0.5, 1.0])),
    )


def can_serve(problem: Problem, units: dict[str, int], month: int, shares: list[float]) -> bool:
    """Two demands on pools of whole units: fill the first where it is comparatively cheapest."""
    need = [demand.peak[month] * share for demand, share in zip(problem.demands, shares, strict=True)]
    pools = [(problem.rates[pool], float(count)) for pool, count in units.items()]
    pools.sort(key=lambda p: math.inf if p[0][1] == 0 else p[0][0] / p[0][1], reverse=True)
    for (first, second), count in pools:
        used = min(count, need[0] / first) if first > 0 else 0.0
        need[0] -= used * first
        need[1] -= (count - used) * second
    return need[0] <= 1e-9 and need[1] <= 1e-9


def feasible(problem: Problem, starts: tuple[Start, ...]) -> bool:
    service = units_in_service(problem, starts)
    offers = {rental.key: rental for rental in problem.rentals}
    costs = count_costs(problem, starts, ())
    for key, units in service.items():
        if max(units) > offers[key].max_units:
            return False
    for limit in problem.limits:
        for month, most in enumerate(limit.max_chips):
            if sum(service[key][month] * offers[key].chips_per_unit for key in limit.rentals) > most:
                return False
    for month, hours in enumerate(problem.hours):
        rents = {key: service[key][month] * hours * offers[key].nano_usd_per_unit_hour for key in service}
        if problem.budget_nano_usd and costs.by_month[month] > problem.budget_nano_usd[month]:
            return False
        for cap in problem.share_caps:
            own = sum(rent for key, rent in rents.items() if offers[key].supplier == cap.supplier)
            if own > cap.max_share * sum(rents.values()) + 1:
                return False
        for loss in (None, *problem.losses):
            left: dict[str, int] = {}
            for key, rental in offers.items():
                gone = loss is not None and (
                    not rental.firm
                    or loss.name == (rental.supplier if loss.kind is LossKind.SUPPLIER else rental.vendor)
                )
                left[rental.pool] = left.get(rental.pool, 0) + (0 if gone else service[key][month])
            shares = [demand.survive if loss else 1.0 for demand in problem.demands]
            if not can_serve(problem, left, month, shares):
                return False
    return True


def brute_force(problem: Problem) -> int | None:
    slots = [
        (rental.key, month, [0, *range(max(1, rental.min_units), MOST + 1)])
        for rental in problem.rentals
        for month in range(rental.first_month, len(problem.months))
    ]
    best: int | None = None
    for counts in itertools.product(*(choices for _, _, choices in slots)):
        starts = tuple(
            Start(offer=key, month=month, units=count)
            for (key, month, _), count in zip(slots, counts, strict=True)
            if count
        )
        costs = count_costs(problem, starts, ())
        total = costs.rent + costs.counted_after_horizon
        if (best is None or total < best) and feasible(problem, starts):
            best = total
    return best


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(problems())
def test_the_plan_costs_what_trying_everything_finds(problem: Problem) -> None:
    model = build_model(problem)
    found = search(model, Target(gap=0.0, seconds=20.0))
    best = brute_force(problem)
    if best is None:
        assert found is None
        return
    assert found is not None
    plan = read_plan(problem, model, found)
    assert check_plan(problem, plan) == ()
    assert plan.total == pytest.approx(best, rel=1e-6, abs=1000)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(problems(), st.data())
def test_the_checker_sees_a_plan_spoilt(problem: Problem, data: st.DataObject) -> None:
    model = build_model(problem)
    found = search(model, Target(gap=0.0, seconds=20.0))
    if found is None:
        reject()
    plan = read_plan(problem, model, found)
    if not plan.starts:
        reject()
    without = msgspec.structs.replace(plan, starts=plan.starts[1:])
    assert check_plan(problem, without) != ()
