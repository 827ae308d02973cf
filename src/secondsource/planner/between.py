"""The months between two whose units are known: what is in service in each, by the later one's units.

What the later month has in service is what may be, and the earlier month's what must be. Going back month by month,
each keeps as little of the next one's units as serves it. No unit is there that the later month does not want, which
units chosen forwards, one month after another, cannot promise.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from secondsource.planner.bounds import Parts, month_window
from secondsource.planner.projection import Projection, add_missed
from secondsource.planner.solve import Effort, Solution, solve_whole
from secondsource.planner.sparse import INFINITY, Sparse, Tag
from secondsource.planner.windows import Setting, Window, relax, spread

_AHEAD = 1  # months before the one that is chosen which are looked at with it
_NEAR = 0.25  # of what a month by itself comes near its end
_LEAST_S = 0.5
_ROUNDS = 20  # of rows over units added; more than these were never seen

Units = Mapping[int, float]  # in service for terms of more than a month, by offer


@dataclass(frozen=True, slots=True)
class Fleet:
    """A projection's units by offer and month, as columns."""

    projection: Projection
    service: dict[int, dict[int, int]]  # by month and offer: the units in service
    starts: dict[int, dict[int, int]]  # by month and offer: the units started; offers for a term alone

    def in_service(self, point: list[float], month: int) -> Units:
        """Return the units in service in a month, of offers for a term."""
        return {r: float(round(point[self.service[month][r]])) for r in self.starts[month]}


def fleet_of(projection: Projection) -> Fleet:
    """Return where a projection's units are."""
    variables, place, terms = projection.model.variables, projection.place, projection.model.term_months
    service: dict[int, dict[int, int]] = {month: {} for month in projection.columns}
    starts: dict[int, dict[int, int]] = {month: {} for month in projection.columns}
    for (r, month), column in variables.active.items():
        service[month][r] = place[column]
        if terms[r] > 1:
            starts[month][r] = place[variables.start[r, month]]
    return Fleet(projection, service, starts)


def carry_on(fleet: Fleet, point: list[float], previous: int, month: int) -> list[float]:
    """Return the point with nothing started between two months, not included: the first one's units run on."""
    carried = list(point)
    for at in range(previous + 1, month):
        for r in fleet.starts[at]:
            carried[fleet.starts[at][r]] = 0.0
            carried[fleet.service[at][r]] = _before(fleet, carried, r, at)
    return carried


def _before(fleet: Fleet, point: list[float], r: int, month: int) -> float:
    """Return the units of an offer that are in service in a month without any being started in it."""
    running = point[fleet.service[month - 1][r]] if month and r in fleet.service[month - 1] else 0.0
    began = month - fleet.projection.model.term_months[r]
    ending = point[fleet.starts[began][r]] if began >= 0 and r in fleet.starts[began] else 0.0
    return running - ending


def fill_between(setting: Setting, fleet: Fleet, months: tuple[int, int], seconds: float) -> list[float] | None:
    """Return the setting's point with the months between two filled in; None where a month finds no units.

    The point has the units of both, those of the second in service; its starts are reckoned here.
    """
    previous, last = months
    if setting.projection.model.variables.ordered:  # going back, orders cannot be told from what runs on
        return None
    least = carry_on(fleet, setting.point, previous, last)
    whole = frozenset(at for service in setting.projection.service.values() for _, at in service)
    tags = setting.projection.sparse.tags
    tied = frozenset(row for row, tag in enumerate(tags) if tag.family == "term")
    parts = Parts(setting.projection, tied, setting.projection.sparse.cost, whole)
    units = fleet.in_service(setting.point, last)
    point = list(setting.point)
    for r, count in units.items():
        point[fleet.service[last][r]] = count
    for month in range(last - 1, previous, -1):
        first = max(previous + 1, month - _AHEAD)
        floors = [fleet.in_service(least, at) for at in range(first, month + 1)]
        found = _thin(setting, fleet, parts, (first, month), (floors, units), seconds)
        if found is None:
            return None
        point = spread(point, *found)
        for column in fleet.service[month].values():
            point[column] = float(round(point[column]))
        units = fleet.in_service(point, month)
    for month in range(previous + 1, last + 1):
        for r, column in fleet.starts[month].items():
            point[column] = point[fleet.service[month][r]] - _before(fleet, point, r, month)
    return point


def _thin(
    setting: Setting,
    fleet: Fleet,
    parts: Parts,
    months: tuple[int, int],
    between: tuple[list[Units], Units],
    seconds: float,
) -> tuple[Window, Solution] | None:
    """Return the cheapest units of some months that are no fewer than the first and no more than the second given.

    Only those of the last month are looked at to the end; the others are there so that it keeps what they can use.
    """
    first, last = months
    least, most = between
    effort = Effort(seconds=max(_LEAST_S, seconds), gap=0.0, threads=1, near=_NEAR * setting.near)
    relax(setting.projection, lambda: _nested(fleet, parts, months, least, most), exact=True)
    for _ in range(_ROUNDS):
        window = _nested(fleet, parts, months, least, most)
        solution = solve_whole(window.sparse, effort)
        if not solution.point:
            return None
        point = spread([0.0] * len(parts.cost), window, solution)
        if not sum(add_missed(setting.projection, at, point, exact=at == last) for at in range(first, last + 1)):
            return window, solution
    return None


def _nested(fleet: Fleet, parts: Parts, months: tuple[int, int], least: list[Units], most: Units) -> Window:
    """Return months side by side, none of which has more units of an offer for a term than the next can have."""
    first, last = months
    both = Sparse()
    columns: list[int] = []
    rows: list[int] = []
    for month, units in zip(range(first, last + 1), least, strict=True):
        one = month_window(parts, month)
        offset = len(columns)
        columns += one.columns
        rows += one.rows
        both.cost += one.sparse.cost
        both.integer += one.sparse.integer
        both.column_lower += one.sparse.column_lower
        both.column_upper += one.sparse.column_upper
        place = {column: offset + index for index, column in enumerate(one.columns)}
        for r in fleet.starts[month]:
            index = place[fleet.service[month][r]]
            both.column_lower[index] = units.get(r, 0.0)
            both.column_upper[index] = max(units.get(r, 0.0), most.get(r, 0.0))
        for row, tag in enumerate(one.sparse.tags):
            terms = [(offset + column, value) for column, value in one.sparse.terms(row)]
            both.row(tag, terms, one.sparse.row_lower[row], one.sparse.row_upper[row])
    place = {column: index for index, column in enumerate(columns)}
    for month in range(first, last):
        for r in fleet.starts[month]:
            here, next_one = place[fleet.service[month][r]], place[fleet.service[month + 1][r]]
            ending = max(0.0, both.column_lower[here] - both.column_lower[next_one])  # they run out in between
            both.row(Tag("nested", "", month), [(here, 1.0), (next_one, -1.0)], -INFINITY, ending)
            rows.append(-1)
    return Window(first, last + 1, columns, rows, both)
