"""A bound above the relaxation's, where few units of many offers are wanted: each month's whole units by themselves.

Months are tied together by the rows of terms alone. With those kept at prices (a Lagrangian relaxation) the model falls
apart into months, and what the months' whole units cost by themselves, all plans cost. A month by itself is small:
what is proved of it is raised step by step, where a step is likely to be cheap first, for as long as there is time.
"""

import math
import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from secondsource.planner.projection import Projection, add_missed
from secondsource.planner.solve import Effort, Solution, Status, solve_linear, solve_whole
from secondsource.planner.sparse import Sparse
from secondsource.planner.windows import Setting, Window, relax, spread, without_dear

_STEP = 2e-4  # of the relaxation's cost: what a month is first taken to add
_NEXT = 1.3  # times as much as was proved is tried next,
_FAR_NEXT = 2.0  # or so much where the last try took less than this:
_SOON_S = 0.2
_LESS = 0.5  # of what was tried in vain is tried next
_EXPECTED_S = 1.0  # for a first try
_LONGER = 2.0  # times as long as a try took is expected of the next, and times as long as expected is given to it
_NEAR = 1e-4  # of what is aimed at: how near its end a search comes
ROUNDING = 1e-6  # of the relaxation's cost, off the bound, for the solver's tolerances


@dataclass(frozen=True, slots=True)
class Known:
    """A plan as a projection's point, with a copy of the projection, which has the rows over units found by then."""

    projection: Projection
    point: Sequence[float]


@dataclass(slots=True)
class Bound:
    """How far above the relaxation every plan is, as proved so far; one thread raises it, another reads it.

    `known` is a good plan that the other thread has found.
    """

    raised: float = 0.0
    known: Known | None = None
    stop: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class Parts:
    """A projection in months: which rows of terms are priced, and what columns cost with those rows' prices."""

    projection: Projection
    priced: frozenset[int]
    cost: list[float]
    whole: frozenset[int]  # columns of units in service, which are whole as what is started is


@dataclass(slots=True)
class Month:
    """What is proved of a month: `base` is its relaxation, `proved` what its whole units cost more.

    `aim` is what is tried to be proved next, and `seconds` what that is expected to take.
    """

    number: int
    base: float
    aim: float
    proved: float = 0.0
    seconds: float = _EXPECTED_S
    done: bool = False
    window: Window | None = None
    relaxation: Solution | None = None

    def worth(self) -> float:
        """Return what a second of the next try is likely to prove."""
        return (self.aim - self.proved) / self.seconds


def raise_bound(setting: Setting, relaxation: Solution, effort: Effort, bound: Bound) -> None:
    """Raise the bound for the effort's seconds, or until it is told to stop."""
    ends_at = time.monotonic() + effort.seconds
    parts = take_apart(setting.projection, relaxation)
    months = []
    for number in range(len(setting.projection.columns)):
        alone = solve_linear(month_window(parts, number).sparse, Effort(threads=1))
        if alone.status is not Status.OPTIMAL:
            return
        months.append(Month(number, alone.objective, _STEP * setting.scale))
    base = sum(month.base for month in months) - relaxation.bound - ROUNDING * setting.scale
    while not bound.stop.is_set():
        left = ends_at - time.monotonic()
        open_ones = [month for month in months if not month.done]
        if left <= 0 or not open_ones:
            return
        month = max(open_ones, key=Month.worth)
        seconds = min(left, _LONGER * month.seconds)
        _prove(parts, month, Effort(seconds=seconds, threads=1, stop=bound.stop, proof=True))
        bound.raised = max(bound.raised, base + sum(one.proved for one in months))


def _prove(parts: Parts, month: Month, effort: Effort) -> None:
    """Try to prove what is aimed at of a month's whole units, and keep what was proved of it."""
    began = time.monotonic()
    if month.window is None or month.relaxation is None:
        month.window, month.relaxation = relax(parts.projection, lambda: month_window(parts, month.number), exact=True)
    if month.relaxation.status is not Status.OPTIMAL:
        month.done = True
        return
    relaxed = month.relaxation.objective
    month.proved = max(month.proved, relaxed - month.base)
    if month.aim <= month.proved:
        month.aim = _NEXT * month.proved
    loss = month.base + month.aim - relaxed
    limited = replace(effort, gap=0.0, near=_NEAR * month.aim, limit=relaxed + loss)
    solution = solve_whole(without_dear(parts.projection, month.window, month.relaxation, loss), limited)
    took = time.monotonic() - began
    if solution.status is Status.INFEASIBLE or solution.bound >= relaxed + loss:
        month.proved = month.aim
        month.aim *= _FAR_NEXT if took < _SOON_S else _NEXT
        month.seconds = _LONGER * took
        return
    month.proved = max(month.proved, solution.bound - month.base)
    month.aim = month.proved + _LESS * (month.aim - month.proved)
    month.seconds = max(took, effort.seconds)
    if solution.point:
        point = spread([0.0] * len(parts.cost), month.window, solution)
        if add_missed(parts.projection, month.number, point, exact=True):
            month.window = None  # to be built anew with the rows that this point misses
        else:
            month.done = solution.status is Status.OPTIMAL


def take_apart(projection: Projection, relaxation: Solution) -> Parts:
    """Return the months of a projection with the rows of terms between them at the relaxation's prices.

    Prices are raised where a start would otherwise cost less than nothing, so that starts are worth nothing by
    themselves and drop out.
    """
    whole = projection.sparse
    prices = _prices(projection, relaxation)
    cost = list(whole.cost)
    for row, price in prices.items():
        for column, value in whole.terms(row):
            cost[column] -= price * value
    service = frozenset(at for months in projection.service.values() for _, at in months)
    return Parts(projection, frozenset(prices), cost, service)


def _prices(projection: Projection, relaxation: Solution) -> Mapping[int, float]:
    """Return the price of each row of terms that ties months together."""
    prices: dict[int, float] = {}
    later: dict[int, float] = defaultdict(float)  # by start: the price of the row that says it ends
    for month in sorted(projection.rows, reverse=True):
        mine = frozenset(projection.columns[month])
        for row in projection.rows[month]:
            terms = projection.sparse.terms(row)
            if projection.sparse.tags[row].family != "term" or mine.issuperset(column for column, _ in terms):
                continue
            price = relaxation.prices[projection.source[row]]
            for column, value in terms:
                if column in projection.service and column in mine and value < 0:
                    price = max(price, later[column] - projection.sparse.cost[column])
            for column, value in terms:
                if column in projection.service and column not in mine:
                    later[column] += price * value
            prices[row] = price
    return prices


def month_window(parts: Parts, month: int) -> Window:
    """Return a month by itself: its rows but those priced, its units in service whole."""
    whole = parts.projection.sparse
    columns = parts.projection.columns[month]
    rows = [row for row in parts.projection.rows[month] if row not in parts.priced]
    used = {column for row in rows for column, _ in whole.terms(row)} | parts.whole
    idle = frozenset(column for column in columns if column in parts.projection.service and column not in used)
    place = {column: index for index, column in enumerate(columns)}
    sub = Sparse(
        cost=[parts.cost[column] for column in columns],
        column_lower=[whole.column_lower[column] for column in columns],
        column_upper=[0.0 if column in idle else whole.column_upper[column] for column in columns],
        integer=[whole.integer[column] or column in parts.whole for column in columns],
    )
    for row in rows:
        terms = [(place[column], value) for column, value in whole.terms(row)]
        sub.row(whole.tags[row], terms, whole.row_lower[row], whole.row_upper[row])
    cuts = parts.projection.cuts[month]
    for cut in cuts:
        sub.row(cut.tag, [(place[column], value) for column, value in cut.terms], cut.asked, math.inf)
    return Window(month, month + 1, columns, rows + [-1] * len(cuts), sub)
