"""How a plan fares if things turn out otherwise; and, with a risk weight, a plan made for that."""

from collections.abc import Callable
from dataclasses import replace

from secondsource.core.errors import InputError, NoAnswerError, SecondsourceError
from secondsource.planner.checker import check_plan
from secondsource.planner.futures import draw_futures
from secondsource.planner.model import Model, build_model
from secondsource.planner.plan import read_plan
from secondsource.planner.planning import Planned
from secondsource.planner.problem import Problem
from secondsource.planner.scenarios import Outlook, Stakes, build_for_futures, foresee, try_plan
from secondsource.planner.search import Found, Target, search
from secondsource.planner.solve import Effort, solve_linear
from secondsource.planner.spec import Spec

FUTURES_SECONDS = 300.0
_TRIAL_SEED = 1_000_003  # away from the seed of the futures a plan is made for


def look_ahead(
    spec: Spec, planned: Planned, risk: float | None, say: Callable[[str], None]
) -> tuple[Planned, Outlook | None]:
    """Return the plan to follow and how it fares; without futures in the SPEC and without `risk`, no outlook.

    With a risk weight the plan is made anew over drawn futures, and the first one stands beside it.
    """
    if spec.futures is None:
        if risk is not None:
            raise InputError("--risk needs a [futures] table in the SPEC: how demand, price and delivery differ")
        return planned, None
    prices = shortfall_prices(spec, planned.problem)
    rules = spec.futures
    trials = draw_futures(planned.problem, rules, spec.deliveries, rules.trials, rules.seed + _TRIAL_SEED)
    stakes = Stakes(futures=trials, shortfall_nano_usd=prices)
    fares = [try_plan("deterministic", planned.problem, planned.plan.starts, stakes, say)]
    chosen = planned
    if risk is not None:
        made_for = draw_futures(planned.problem, rules, spec.deliveries, rules.count, rules.seed)
        chosen = plan_for_futures(
            planned.problem, Stakes(futures=made_for, shortfall_nano_usd=prices, risk=risk), spec, say
        )
        fares.insert(0, try_plan(f"risk {risk:g}", chosen.problem, chosen.plan.starts, stakes, say))
    fares.append(foresee(planned.problem, stakes, say))
    return chosen, Outlook(futures=len(trials), seed=rules.seed + _TRIAL_SEED, trials=tuple(fares))


def plan_for_futures(problem: Problem, stakes: Stakes, spec: Spec, say: Callable[[str], None]) -> Planned:
    """Return the plan of least expected cost and risk over the stakes' futures, checked."""
    say(f"building the model of {len(stakes.futures)} futures")
    model = build_for_futures(problem, stakes)
    target = Target(gap=spec.gap, seconds=max(spec.seconds, FUTURES_SECONDS * 0.8), progress=say)
    found = search(model, target)
    if found is None or not found.point:
        raise NoAnswerError("no plan for the futures was found in the time given; give more with [plan] seconds")
    plan = read_plan(problem, *_routed(problem, model, found), over_futures=True)
    faults = check_plan(problem, plan)
    if faults:
        raise SecondsourceError("a fault of the planner: its plan fails the checker: " + "; ".join(faults[:5]))
    return Planned(problem, model, found, plan)


def _routed(problem: Problem, model: Model, found: Found) -> tuple[Model, Found]:
    """Return the SPEC's own model with the starts of a plan for futures, and its traffic routed at least cost.

    Over futures nothing is paid for the SPEC's own traffic, so there its routes are any that keep the SPEC.
    """
    own = build_model(problem)
    lower, upper = list(own.sparse.column_lower), list(own.sparse.column_upper)
    for key, column in own.variables.start.items():
        lower[column] = upper[column] = round(found.point[model.variables.start[key]])
    solution = solve_linear(replace(own.sparse, column_lower=lower, column_upper=upper), Effort(seconds=60.0))
    return own, replace(found, point=solution.point)


def shortfall_prices(spec: Spec, problem: Problem) -> tuple[int, ...]:
    """Return what a request not served loses, by demand; raises InputError for a lane that does not say."""
    lanes = {lane.name: lane for lane in spec.lanes}
    prices = []
    for demand in problem.demands:
        price = lanes[demand.lane].shortfall_nano_usd
        if price is None and spec.futures is not None:
            price = spec.futures.shortfall_nano_usd
        if price is None:
            raise InputError(
                f"futures need a price for what is not served: give lane {demand.lane} "
                f"shortfall_usd_per_1000_requests, or [futures] one for every lane"
            )
        prices.append(price)
    return tuple(prices)
