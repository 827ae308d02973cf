"""Decide first which orders are placed, where offers have a smallest order.

The relaxation may rent a part of a smallest order. Where that part is a large one of the fleet, its bound is far below
every plan, and rounding it up far above the best. Whether an order is placed is few variables, so with those alone
whole, and units in parts, the model is searched nearly to its end: its bound holds for every plan. What is left, once
orders are placed or not, has no smallest orders.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from secondsource.planner.model import Model
from secondsource.planner.solve import Effort, Solution, Status, solve_relaxation, solve_whole

_TINY = 1e-6
_CLOSE = 0.5  # of the gap asked for: what placing every order that the relaxation uses may cost
_NEAR = 0.2  # of the gap asked for: how near its end the search for orders comes


@dataclass(frozen=True, slots=True)
class Placed:
    """A model in which each order is placed or not, its relaxation, and a bound of all plans, whatever their orders."""

    model: Model
    relaxation: Solution
    central: Solution
    bound: float


def place_orders(open_orders: Placed, effort: Effort, say: Callable[[str], None]) -> Placed | None:
    """Return a model with its orders placed; None where no choice of them was found in the time given.

    Those that the relaxation uses are placed, whole, where that costs little; else they are searched for.
    """
    model, relaxation = open_orders.model, open_orders.relaxation
    units = {key: relaxation.point[model.variables.start[key]] for key in model.variables.ordered}
    used = frozenset(key for key, count in units.items() if count > _TINY)
    if all(units[key] >= model.least_order[key[0]] - _TINY for key in used):
        return replace(open_orders, model=_with_orders(model, used))
    whole = _relaxed(_with_orders(model, used), effort, open_orders.bound)
    if whole and whole.relaxation.objective - relaxation.bound <= _CLOSE * effort.gap * abs(relaxation.objective):
        return whole
    say("smallest orders: which to place")
    chosen = _search(model, replace(effort, gap=_NEAR * effort.gap), whole)
    if not chosen.point:
        return whole
    say(f"smallest orders: no plan costs less than ${chosen.bound * 1000:,.0f}")
    found = frozenset(key for key, column in model.variables.ordered.items() if chosen.point[column] > _TINY)
    return _relaxed(_with_orders(model, found), effort, max(open_orders.bound, chosen.bound))


def _with_orders(model: Model, orders: frozenset[tuple[int, int]]) -> Model:
    """Return the model with these orders placed and no others."""
    lower, upper = list(model.sparse.column_lower), list(model.sparse.column_upper)
    for key, column in model.variables.ordered.items():
        start = model.variables.start[key]
        lower[column] = upper[column] = 1.0 if key in orders else 0.0
        if key in orders:
            lower[start] = float(model.least_order[key[0]])
        else:
            upper[start] = 0.0
    return replace(model, sparse=replace(model.sparse, column_lower=lower, column_upper=upper))


def _relaxed(model: Model, effort: Effort, bound: float) -> Placed | None:
    relaxation, central = solve_relaxation(model.sparse, effort)
    return Placed(model, relaxation, central, bound) if relaxation.status is Status.OPTIMAL else None


def _search(model: Model, effort: Effort, known: Placed | None) -> Solution:
    """Search with nothing whole but which orders are placed."""
    orders = frozenset(model.variables.ordered.values())
    integer = [column in orders for column in range(len(model.sparse.cost))]
    hint = known.relaxation.point if known else ()
    return solve_whole(replace(model.sparse, integer=integer), effort, hint)
