"""From a SPEC to a plan: fill in, build, search, read, check; and size the pools that rates depend on."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from secondsource.catalog.records import Catalog
from secondsource.core.errors import NoAnswerError, SecondsourceError
from secondsource.planner.checker import check_plan
from secondsource.planner.clash import find_clash
from secondsource.planner.dominance import drop_dominated
from secondsource.planner.learn import Learnt
from secondsource.planner.model import Model, build_model
from secondsource.planner.plan import Plan, read_plan, units_in_service
from secondsource.planner.problem import Problem
from secondsource.planner.rates import RateOf
from secondsource.planner.resolve import resolve
from secondsource.planner.search import Found, Target, search
from secondsource.planner.solve import Effort
from secondsource.planner.spec import Spec
from secondsource.planner.spec_words import in_words

SIZING_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan with what it was made from."""

    problem: Problem
    model: Model
    found: Found
    plan: Plan


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a plan is made from besides the SPEC."""

    catalog: Catalog
    rate_of: RateOf
    learnt: Mapping[str, Learnt]


def make_plan(spec: Spec, inputs: Inputs, say: Callable[[str], None]) -> Planned:
    """Return the SPEC's plan, checked.

    Raises NoAnswerError for an infeasible SPEC, naming what clashes. A pool's rates rise with its size: each
    is first taken to hold as many units as an even split would give it, and where the plan gives it fewer it
    is planned again with those, so that no rate stands on units that are not there.
    """
    target = Target(gap=spec.gap, seconds=spec.seconds, progress=say)
    sizes = _first_sizes(resolve(spec, inputs.catalog, inputs.rate_of, inputs.learnt, {}))
    for round_number in range(SIZING_ROUNDS + 1):
        problem = drop_dominated(resolve(spec, inputs.catalog, inputs.rate_of, inputs.learnt, sizes))
        planned = plan_problem(problem, target, spec.words)
        smaller = _too_small(planned, sizes)
        if not smaller:
            return planned
        say(f"{len(smaller)} pools came out smaller than their rates assume; planning again")
        last = round_number == SIZING_ROUNDS - 1
        sizes = {**sizes, **(dict.fromkeys(sizes, 1) if last else smaller)}
    return planned


def plan_problem(problem: Problem, target: Target, words: Mapping[str, str]) -> Planned:
    """Return a problem's plan, checked; raises NoAnswerError with the clash when there is none."""
    model = build_model(problem)
    found = search(model, target)
    if found is None:
        raise NoAnswerError(clash_text(problem, model, words))
    if not found.point:
        raise NoAnswerError(
            f"no plan of whole units was found in {target.seconds:g} s, and none was ruled out; give more "
            f"time with [plan] seconds"
        )
    plan = read_plan(problem, model, found)
    faults = check_plan(problem, plan)
    if faults:
        raise SecondsourceError("the plan fails its own checker, a fault of the planner: " + "; ".join(faults[:5]))
    return Planned(problem, model, found, plan)


def clash_text(problem: Problem, model: Model, words: Mapping[str, str]) -> str:
    """Return, for people, which of the SPEC's statements cannot all hold."""
    clash = find_clash(model.sparse, len(problem.months), Effort(seconds=60.0))
    lines = [f"  - {in_words(words, statement)}" for statement in clash.statements]
    when = f", and already cannot in {problem.months[clash.month]}" if clash.month is not None else ""
    return "\n".join(
        [
            f"no plan exists: these cannot all hold{when}; giving way in any one makes the rest possible",
            *lines,
        ]
    )


def _first_sizes(problem: Problem) -> dict[str, int]:
    """Return the units each pool would hold if all suppliers shared the least demand evenly, halved."""
    suppliers = max(1, len({rental.supplier for rental in problem.rentals}))
    sizes: dict[str, int] = {}
    for pool, rates in problem.rates.items():
        units = sum(min(demand.peak) / rates[d] for d, demand in enumerate(problem.demands) if rates[d] > 0)
        sizes[pool] = _power_of_two(units / suppliers / 2)
    return sizes


def _power_of_two(units: float) -> int:
    """Return the power of two at or under a number of units: rounding down keeps rates on the safe side."""
    return 2 ** int(math.log2(units)) if units >= 1 else 1


def _too_small(planned: Planned, sizes: Mapping[str, int]) -> dict[str, int]:
    """Return the pools that serve traffic with fewer units than assumed, each with the least it ever has."""
    service = units_in_service(planned.problem, planned.plan.starts)
    units: dict[tuple[str, int], int] = {}
    for rental in planned.problem.rentals:
        for month, count in enumerate(service[rental.key]):
            units[rental.pool, month] = units.get((rental.pool, month), 0) + count
    smaller: dict[str, int] = {}
    for route in planned.plan.routes:
        least = min(units[route.pool, route.month], smaller.get(route.pool, sizes.get(route.pool, 1)))
        if least < sizes.get(route.pool, 1):
            smaller[route.pool] = _power_of_two(least)
    return smaller
