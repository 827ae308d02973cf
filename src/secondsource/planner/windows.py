"""Some months of a projected model by themselves: earlier months fixed, later ones priced, whole units searched."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from secondsource.planner.projection import Projection, add_missed, reduced_costs
from secondsource.planner.solve import Effort, Solution, Status, solve_linear, solve_whole
from secondsource.planner.sparse import Sparse

_FURTHER = (1.0, 4.0, math.inf)  # times as far, where nothing is found so near
_FIRST_PART = 0.6  # of the time left
_ROUNDS = 8  # of rows over units added to a window's relaxation
_LEAST_S = 1.0
_LAST_S = 5.0  # for one month at any cost: better a plan that is late than none
_TINY = 1e-6


@dataclass(frozen=True, slots=True)
class Window:
    """Months `first` to `end` (not included): the projection's columns and rows in it, in their order."""

    first: int
    end: int
    columns: list[int]
    rows: list[int]  # rows over units come after each month's own, as -1
    sparse: Sparse


@dataclass(frozen=True, slots=True)
class Setting:
    """What a window is seen in: the projection's point by earlier months, and what later ones cost.

    `later` is what a unit in service costs in its month at the relaxation's prices, by column; `scale` the relaxation's
    cost; `near` how near its end a window's search comes, in units of cost.
    """

    projection: Projection
    point: list[float]
    later: Mapping[int, float]
    scale: float
    near: float


@dataclass(frozen=True, slots=True)
class Searched:
    """A window with the whole units found for it, and what they cost more than its relaxation."""

    window: Window
    point: Sequence[float]
    loss: float


def window_of(setting: Setting, first: int, end: int) -> Window:
    """Return the months' rows and columns; what earlier months bring into a row is moved to its bounds."""
    whole = setting.projection.sparse
    months = range(first, end)
    columns = [column for month in months for column in setting.projection.columns[month]]
    place = {column: index for index, column in enumerate(columns)}
    sub = Sparse(
        cost=[_cost(setting, column, end) for column in columns],
        column_lower=[whole.column_lower[column] for column in columns],
        column_upper=[whole.column_upper[column] for column in columns],
        integer=[whole.integer[column] for column in columns],
    )
    rows: list[int] = []
    for month in months:
        rows += setting.projection.rows[month]
        rows += [-1] * len(setting.projection.cuts[month])
        for row in setting.projection.rows[month]:
            terms: list[tuple[int, float]] = []
            known = 0.0
            for column, value in whole.terms(row):
                index = place.get(column)
                if index is None:
                    known += value * setting.point[column]
                else:
                    terms.append((index, value))
            sub.row(whole.tags[row], terms, whole.row_lower[row] - known, whole.row_upper[row] - known)
        for cut in setting.projection.cuts[month]:
            sub.row(cut.tag, [(place[column], value) for column, value in cut.terms], cut.asked, math.inf)
    return Window(first, end, columns, rows, sub)


def _cost(setting: Setting, column: int, end: int) -> float:
    """Return a column's cost; for a start, with what its units in service cost from month `end` on."""
    service = setting.projection.service.get(column, ())
    return setting.projection.sparse.cost[column] + sum(
        setting.later.get(at, 0.0) for month, at in service if month >= end
    )


def search_window(setting: Setting, span: tuple[int, int], loss: float, seconds: float) -> Searched | None:
    """Return the best whole units found for the months of `span`, of which the first can be routed; None for none.

    They are looked for among those that cost up to `loss` more than the relaxation, and then further off.
    """
    ends_at = time.monotonic() + seconds
    window, relaxation = relax(setting.projection, lambda: window_of(setting, *span), exact=True)
    if relaxation.status is Status.INFEASIBLE:
        return None
    while True:
        solution = _search(setting, window, relaxation, loss, ends_at)
        if not solution.point:
            return None
        point = spread(setting.point, window, solution)
        if not _missed(setting, span, point):
            return Searched(window, solution.point, solution.objective - relaxation.objective)
        window = window_of(setting, *span)


def _missed(setting: Setting, span: tuple[int, int], point: Sequence[float]) -> int:
    return sum(add_missed(setting.projection, month, point, exact=month == span[0]) for month in range(*span))


def _search(setting: Setting, window: Window, relaxation: Solution, loss: float, ends_at: float) -> Solution:
    """Return a window's whole units, looked for near the relaxation first, and further off where there are none."""
    best = Solution(Status.STOPPED, math.inf, 0.0, (), ())
    for factor in _FURTHER:
        left = ends_at - time.monotonic()
        seconds = max(_LEAST_S, left * _FIRST_PART) if factor < math.inf else max(_LAST_S, left)
        limit = relaxation.objective + factor * loss
        effort = Effort(seconds=seconds, gap=0.0, threads=1, near=setting.near, limit=limit)
        solution = solve_whole(without_dear(setting.projection, window, relaxation, factor * loss), effort)
        if solution.point and solution.objective < best.objective:
            best = solution
        if best.objective <= limit or (best.point and time.monotonic() > ends_at):
            break  # what costs more than the limit may be beaten by what the limit shuts out
    return best


def relax(projection: Projection, build: Callable[[], Window], exact: bool) -> tuple[Window, Solution]:
    """Return a window with the rows over units that its relaxation misses, and the relaxation."""
    window = build()
    relaxation = solve_linear(window.sparse, Effort(threads=1))
    for _ in range(_ROUNDS):
        if relaxation.status is not Status.OPTIMAL:
            break
        point = spread([0.0] * len(projection.sparse.cost), window, relaxation)
        if not sum(add_missed(projection, month, point, exact) for month in range(window.first, window.end)):
            break
        window = build()
        relaxation = solve_linear(window.sparse, Effort(threads=1))
    return window, relaxation


def spread(point: Sequence[float], window: Window, solution: Solution) -> list[float]:
    """Return the projection's point with a window's part in its place."""
    whole = list(point)
    for column, value in zip(window.columns, solution.point, strict=True):
        whole[column] = value
    return whole


def without_dear(projection: Projection, window: Window, relaxation: Solution, loss: float) -> Sparse:
    """Return the window without the units that cost more than `loss` above its relaxation.

    A start of a unit raises the cost by its own reduced cost and by that of its units in service in the window.
    """
    sparse = window.sparse
    reduced = reduced_costs(sparse, relaxation)
    place = {column: index for index, column in enumerate(window.columns)}
    upper = list(sparse.column_upper)
    for column, service in projection.service.items():
        start = place.get(column)
        if start is not None:
            columns = {start, *(place[at] for month, at in service if month < window.end)}
            if sum(reduced[index] for index in columns) > loss + _TINY:
                upper[start] = 0.0
    for index, integer in enumerate(sparse.integer):
        if integer and sparse.column_lower[index] == 0.0 and reduced[index] > loss + _TINY:
            upper[index] = 0.0
    return replace(sparse, column_upper=upper)
