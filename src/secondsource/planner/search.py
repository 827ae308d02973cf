"""Find whole units: the relaxation first, then a search near it, then all of it while time lasts.

The relaxation's bound holds for every plan. At scale its solution starts only a few of the many offers, so
a search over those alone (each kept between its value rounded down and one above it rounded up) is small
and nearly always comes within the gap asked for; only a small model is searched whole at once. Where few units of
many offers are wanted, that search finds no good plan soon, and one is put together month by month as well. Where
offers have a smallest order, which of those are placed is decided before (`planner.orders`).
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from secondsource.planner.model import Model
from secondsource.planner.months import solve_by_months
from secondsource.planner.orders import Placed, place_orders
from secondsource.planner.projection import project
from secondsource.planner.solve import (
    Effort,
    Solution,
    Status,
    solve_by_diving,
    solve_linear,
    solve_relaxation,
    solve_whole,
)
from secondsource.planner.sparse import Sparse

WHOLE_AT_ONCE = 600  # whole variables up to which the model is searched whole at once
SMALL_UNDER = 5e4  # thousands of dollars
_TINY = 1e-6
_PATIENCE = 4.0  # times the time asked for: what the relaxation may take of it
_INNER = 0.8  # of the gap asked of the plan: asked of a search, whose own bound is higher
_ORDERS = 0.4  # of the time: what deciding which smallest orders are placed may take


Stage = tuple[str, Callable[[Effort, Sequence[float]], Solution], float, bool]


@dataclass(frozen=True, slots=True)
class Target:
    """How near the optimum to come, as a fraction of cost, and how long to try, in seconds."""

    gap: float | None = None  # None: by the size of the plan, see `gap_for`
    seconds: float = 60.0
    threads: int = 2
    progress: Callable[[str], None] | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """The best point found with its proof; costs in thousands of dollars. `point` is empty for none."""

    point: Sequence[float]
    objective: float
    bound: float
    relaxation: Solution
    seconds: float

    @property
    def gap(self) -> float:
        """The part of the cost that a better plan could at most save."""
        return max(0.0, self.objective - self.bound) / abs(self.objective) if self.objective else 0.0


def gap_for(thousand_usd: float) -> float:
    """Return the gap to come within: 1% from $100M on, 3% from $10M on, 0.1% below."""
    return 0.01 if thousand_usd >= 1e5 else 0.03 if thousand_usd >= 1e4 else 0.001


def search(model: Model, target: Target) -> Found | None:
    """Return the best plan found in the time given, or None when no plan exists."""
    began = time.monotonic()
    say = target.progress or (lambda _: None)

    def left() -> float:
        return max(1.0, target.seconds - (time.monotonic() - began))

    say("solving the relaxation")
    patience = _PATIENCE * target.seconds  # late is better than none: there is no plan without the relaxation
    relaxation, central = solve_relaxation(model.sparse, Effort(seconds=patience, threads=target.threads))
    if relaxation.status is Status.INFEASIBLE:
        return None
    if relaxation.status is not Status.OPTIMAL:  # it proves nothing, and no search can start from it
        return Found((), math.inf, 0.0, relaxation, time.monotonic() - began)
    say(f"relaxation: no plan costs less than ${relaxation.objective * 1000:,.0f}")
    gap = gap_for(relaxation.objective) if target.gap is None else target.gap
    effort = Effort(seconds=_ORDERS * left(), gap=gap, threads=target.threads)
    placed = _placed(Placed(model, relaxation, central, relaxation.bound), effort, say)
    gap = gap_for(placed.bound) if target.gap is None else target.gap
    found = Found((), math.inf, placed.bound, relaxation, 0.0)
    infeasible = False
    for name, solve, share, whole in _stages(model, placed):
        if found.point and (found.gap <= gap or time.monotonic() - began > target.seconds):
            break
        say(f"whole units: {name}")
        effort = Effort(seconds=left() * share, gap=_inner_gap(gap), threads=target.threads, progress=say)
        solution = solve(effort, found.point)
        infeasible = whole and solution.status is Status.INFEASIBLE
        found = _better(found, solution, whole)
        if found.point:
            say(f"a plan for ${found.objective * 1000:,.0f}, at most {found.gap:.2%} above the best")
    if infeasible:
        return None
    return replace(found, seconds=time.monotonic() - began)


def _inner_gap(gap: float) -> float:
    """Ask a little more of the search than of the plan: its gap is against its own, higher bound."""
    return gap * _INNER


def _better(found: Found, solution: Solution, whole: bool) -> Found:
    bound = max(found.bound, solution.bound) if whole and solution.status is not Status.INFEASIBLE else found.bound
    if solution.point and solution.objective < found.objective:
        return replace(found, point=solution.point, objective=solution.objective, bound=bound)
    return replace(found, bound=bound)


def _placed(open_orders: Placed, effort: Effort, say: Callable[[str], None]) -> Placed:
    """Return a large model with its smallest orders placed, or as it is where it has none or none could be chosen."""
    if not open_orders.model.variables.ordered or sum(open_orders.model.sparse.integer) <= WHOLE_AT_ONCE:
        return open_orders
    return place_orders(open_orders, effort, say) or open_orders


def _stages(everything_of: Model, placed: Placed) -> list[Stage]:
    """Return the searches to make: name, solve, part of the time left, and whether it covers every plan."""
    model, relaxation, central = placed.model, placed.relaxation, placed.central

    def near(reach: int) -> Callable[[Effort, Sequence[float]], Solution]:
        return lambda effort, point: solve_whole(_near(model, relaxation, reach, point), effort, point)

    def diving(effort: Effort, _: Sequence[float]) -> Solution:
        return solve_by_diving(model.sparse, list(model.variables.start.values()), effort)

    whole = everything_of.sparse
    everything: Stage = ("every offer", lambda effort, point: solve_whole(whole, effort, point), 1.0, True)
    if sum(model.sparse.integer) <= WHOLE_AT_ONCE:
        return [everything]
    rounded = _rounded_up(model, relaxation)
    stages: list[Stage] = [
        ("the relaxation rounded up", lambda effort, _: solve_linear(rounded, effort), 0.3, False),
        ("the offers the relaxation uses", near(1), 0.5, False),
    ]
    if relaxation.objective < SMALL_UNDER:  # few units among many offers
        projection = project(model, central)
        if projection is not None:
            by_months: Stage = (
                "month by month",
                lambda effort, _: solve_by_months(projection, central, replace(effort, gap=effort.gap / _INNER)),
                0.95,
                model is everything_of,  # its bound is of plans with these orders alone
            )
            stages.insert(0, by_months)
        if not model.orders_open:
            stages.append(("rounding up bit by bit", diving, 0.5, False))
        stages.append(("around the best plan yet", near(1), 0.6, False))
    return [*stages, ("a wider choice around them", near(2), 0.6, False), everything]


def _rounded_up(model: Model, relaxation: Solution) -> Sparse:
    """Return the model with each start fixed at its relaxed value rounded up: dear, but quickly a plan."""
    lower = list(model.sparse.column_lower)
    upper = list(model.sparse.column_upper)
    for key, column in model.variables.start.items():
        units = float(math.ceil(relaxation.point[column] - _TINY))
        if key in model.variables.ordered and units:
            units = max(units, float(model.least_order[key[0]]))
            lower[model.variables.ordered[key]] = 1.0
        lower[column] = upper[column] = units
    return replace(model.sparse, column_lower=lower, column_upper=upper)


def _near(model: Model, relaxation: Solution, reach: int, point: Sequence[float]) -> Sparse:
    """Return the model with each start kept near its relaxed value, and near its value in a known point.

    Reach 2 frees offers rented by the month, and every month of an offer that the relaxation uses.
    """
    lower = list(model.sparse.column_lower)
    upper = list(model.sparse.column_upper)
    monthly = {model.variables.active[key] for key in model.variables.active} & set(model.variables.start.values())
    used = {r for (r, month), c in model.variables.start.items() if relaxation.point[c] > _TINY}
    for (r, month), column in model.variables.start.items():
        value = relaxation.point[column]
        idle = value <= _TINY
        if idle and (reach == 1 or (r not in used and column not in monthly)):
            upper[column] = 0.0
        elif reach == 1:
            lower[column] = max(lower[column], math.floor(value + _TINY))
            upper[column] = min(upper[column], math.ceil(value - _TINY) + 1.0)
            if (r, month) in model.variables.ordered:  # an order may have to be none, or a whole smallest one
                lower[column] = 0.0
                upper[column] = max(upper[column], float(model.least_order[r]))
        if point:
            lower[column] = min(lower[column], float(round(point[column])))
            upper[column] = max(upper[column], float(round(point[column])))
    return replace(model.sparse, column_lower=lower, column_upper=upper)
