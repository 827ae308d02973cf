"""A projected model by months as dense numbers: rows over the units of each offer, their prices, what a start loses.

At the relaxation's prices a plan costs what the relaxation costs, what its starts lose (their reduced cost), and what
its rows have left over (Lagrange). So months can be judged one after another, by what they lose.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy
from numpy.typing import NDArray

from secondsource.planner.projection import Columns, Cut, Numbers, Projection, add_missed
from secondsource.planner.solve import Solution

_APART = ("term", "spend", "minimum")  # rows that need no looking at where units are counted by offer


@dataclass(slots=True)
class MonthRows:
    """One month's rows, `rates @ units >= asked`, by row and offer; the first `supply` are not about serving demand.

    `prices` are the relaxation's; rows found later have none. `loss` is what a start costs above its worth at those
    prices, infinite where nothing can be started. Units of an offer in service are at most `most`,
    and at least `least` are started.
    """

    rates: Numbers
    asked: Numbers
    prices: Numbers
    supply: int
    most: Numbers
    loss: Numbers
    least: NDArray[numpy.int64]
    cuts: int = 0  # how many of the projection's rows over units are in


@dataclass(frozen=True, slots=True)
class Rent:
    """A supplier's rent in a month, by units in service: its column, and `rates @ units + held`."""

    column: int
    month: int
    rates: Numbers
    held: float


@dataclass(frozen=True, slots=True)
class Ground:
    """What fleets stand on: the rows of each month, and where units are in the projection (-1: nowhere)."""

    projection: Projection
    months: list[MonthRows]
    terms: Columns  # by offer: months that a unit is in service
    service: Columns  # by month and offer
    start: Columns
    offer: Columns  # by the projection's column: its offer, where it is of units in service
    rents: list[Rent]
    rest: Numbers  # a point that has the relaxation's shares not served, and nothing else
    routed: set[tuple[int, bytes]] = field(default_factory=set)  # months with units that are known to serve them

    def in_service(self, starts: NDArray[numpy.int64]) -> Numbers:
        """Return the units in service, by month and offer, of the units started."""
        months = numpy.arange(len(starts) + 1)
        so_far = numpy.concatenate([numpy.zeros((1, starts.shape[1])), starts.cumsum(axis=0)])
        ended = numpy.maximum(0, months[1:, None] - self.terms[None, :])
        units: Numbers = so_far[1:] - numpy.take_along_axis(so_far, ended, axis=0)
        return units

    def point(self, starts: NDArray[numpy.int64]) -> list[float]:
        """Return the projection's point of the units started."""
        units = self.in_service(starts)
        point = self.rest.copy()
        for columns, values in ((self.start, starts), (self.service, units)):  # of a month's rent the two are one
            placed = columns >= 0
            point[columns[placed]] = values[placed]
        for rent in self.rents:
            point[rent.column] = rent.rates @ units[rent.month] + rent.held
        return [float(value) for value in point]

    def missed(self, month: int, units: Numbers) -> int:
        """Add the rows over units that a month's units miss, and return how many; none: all can be routed."""
        known = month, units.tobytes()
        if known in self.routed:
            return 0
        point = self.rest.copy()
        placed = self.service[month] >= 0
        point[self.service[month][placed]] = units[placed]
        found = add_missed(self.projection, month, point, exact=True)
        _take_in(self, month)
        if not found:
            self.routed.add(known)
        return found


def lay_out(projection: Projection, relaxation: Solution) -> Ground:
    """Return what fleets of a projection stand on, with the relaxation's prices."""
    variables, place, terms = projection.model.variables, projection.place, projection.model.term_months
    months, offers, columns = len(projection.columns), len(terms), len(projection.sparse.cost)
    service = numpy.full((months, offers), -1, dtype=numpy.int64)
    start = service.copy()
    offer = numpy.full(columns, -1, dtype=numpy.int64)
    for (r, month), column in variables.active.items():
        service[month, r] = place[column]
        offer[place[column]] = r
    for (r, month), column in variables.start.items():
        start[month, r] = place[column]
    rest = numpy.zeros(columns)
    for column in variables.short.values():
        rest[place[column]] = relaxation.point[column]
    length = numpy.maximum(1, numpy.array(terms, dtype=numpy.int64))
    ground = Ground(projection, [], length, service, start, offer, _rents(projection, offer, offers), rest)
    _fill(ground, relaxation)
    return ground


def _rents(projection: Projection, offer: Columns, offers: int) -> list[Rent]:
    """Return each supplier's rent in each month, read off the row that sums it up."""
    sparse, place = projection.sparse, projection.place
    spends = frozenset(place[column] for column in projection.model.variables.spend.values())
    rents = []
    for row, tag in enumerate(sparse.tags):
        if tag.family == "spend":
            rates = numpy.zeros(offers)
            own = -1
            for column, value in sparse.terms(row):
                if column in spends:
                    own = column
                else:
                    rates[offer[column]] -= value
            rents.append(Rent(own, tag.month or 0, rates, sparse.row_lower[row]))
    return rents


def _fill(ground: Ground, relaxation: Solution) -> None:
    """Lay out each month's rows, and what starts lose."""
    sparse, offers = ground.projection.sparse, len(ground.terms)
    by_column = {rent.column: rent for rent in ground.rents}
    worth = _worth(ground.projection, relaxation)
    cost = numpy.array(sparse.cost)
    loss = numpy.zeros((len(ground.projection.columns), offers))  # of a unit in service
    for month in range(len(loss)):
        rows: list[tuple[Numbers, float, float]] = []
        most = numpy.full(offers, math.inf)
        here = ground.service[month] >= 0
        loss[month, here] = cost[ground.service[month][here]]
        for rent in ground.rents:
            if rent.month == month:
                loss[month] += cost[rent.column] * rent.rates
        for row in ground.projection.rows[month]:
            if sparse.tags[row].family in _APART:
                continue
            price = relaxation.prices[ground.projection.source[row]]
            rates, known = _dense(ground, row, by_column)
            loss[month] -= price * rates
            lower, upper = sparse.row_lower[row] - known, sparse.row_upper[row] - known
            if upper < math.inf and numpy.count_nonzero(rates) == 1 and rates.max() > 0:
                alone = int(rates.argmax())
                most[alone] = min(most[alone], upper / rates[alone])
            elif upper < math.inf:
                rows.append((-rates, -upper, max(0.0, -price)))
            if lower > -math.inf:
                rows.append((rates, lower, max(0.0, price)))
        table = numpy.array([rates for rates, _, _ in rows]).reshape(len(rows), offers)
        asked, prices = numpy.array([row[1] for row in rows]), numpy.array([row[2] for row in rows])
        least = _bounds(ground, month, sparse.column_lower).astype(numpy.int64)
        ground.months.append(MonthRows(table, asked, prices, len(rows), most, numpy.zeros(0), least))
        _take_in(ground, month, worth)
        own = ground.months[month]
        loss[month] -= own.prices[own.supply :] @ own.rates[own.supply :]
    _price_starts(ground, loss)


def _price_starts(ground: Ground, loss: Numbers) -> None:
    """Sum up what units lose over the months of their term."""
    cost = numpy.array(ground.projection.sparse.cost)
    so_far = numpy.concatenate([numpy.zeros((1, loss.shape[1])), loss.cumsum(axis=0)])
    for month, rows in enumerate(ground.months):
        end = numpy.minimum(len(loss), month + ground.terms)
        rows.loss = numpy.take_along_axis(so_far, end[None, :], axis=0)[0] - so_far[month]
        apart = (ground.start[month] >= 0) & (ground.start[month] != ground.service[month])
        rows.loss[apart] += cost[ground.start[month][apart]]
        rows.loss[ground.start[month] < 0] = math.inf
        rows.loss[_bounds(ground, month, ground.projection.sparse.column_upper) <= 0] = math.inf


def _bounds(ground: Ground, month: int, bounds: Sequence[float]) -> Numbers:
    """Return the bounds of a month's starts, by offer; none where nothing can be started."""
    values: Numbers = numpy.where(ground.start[month] >= 0, numpy.asarray(bounds)[ground.start[month]], 0.0)
    return values


def _dense(ground: Ground, row: int, rents: dict[int, Rent]) -> tuple[Numbers, float]:
    """Return a row's values by offer, and what it has from the rest."""
    rates = numpy.zeros(len(ground.terms))
    known = 0.0
    for column, value in ground.projection.sparse.terms(row):
        if column in rents:
            rates += value * rents[column].rates
            known += value * rents[column].held
        elif ground.offer[column] >= 0:
            rates[ground.offer[column]] += value
        else:
            known += value * float(ground.rest[column])
    return rates, known


def _worth(projection: Projection, relaxation: Solution) -> dict[tuple[str, int], float]:
    """Return what the relaxation pays for serving each case and month, which the first row of each has as its price."""
    worth: dict[tuple[str, int], float] = defaultdict(float)
    whole = projection.model.sparse
    for row, tag in enumerate(whole.tags):
        if tag.family == "demand":
            worth[tag.case, tag.month or 0] += relaxation.prices[row] * whole.row_lower[row]
    return worth


def _take_in(ground: Ground, month: int, worth: dict[tuple[str, int], float] | None = None) -> None:
    """Append the projection's rows over units that a month does not have yet."""
    rows = ground.months[month]
    new = ground.projection.cuts[month][rows.cuts :]
    if not new:
        return
    dense = [_dense_cut(ground, cut) for cut in new]
    prices = [worth.pop((cut.tag.subject, month), 0.0) if worth else 0.0 for cut in new]
    rows.rates = numpy.concatenate([rows.rates, numpy.array([rates for rates, _ in dense])])
    rows.asked = numpy.concatenate([rows.asked, numpy.array([asked for _, asked in dense])])
    rows.prices = numpy.concatenate([rows.prices, numpy.array(prices)])
    rows.cuts += len(new)


def _dense_cut(ground: Ground, cut: Cut) -> tuple[Numbers, float]:
    rates = numpy.zeros(len(ground.terms))
    offers = ground.offer[cut.columns]
    units = offers >= 0
    numpy.add.at(rates, offers[units], cut.values[units])
    return rates, cut.asked - float(cut.values[~units] @ ground.rest[cut.columns[~units]])
