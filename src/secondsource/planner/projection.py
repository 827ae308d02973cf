"""The model without its routes: what traffic asks of the units rented, as rows over the units alone.

Routes are most of a model's columns, and whole units are decided without them: units serve a case's demand if and only
if, for every set of weights `y[d] >= 0` of the demands,

    sum_g (max_d y[d] mu[g,d]) u[g] + sum_d y[d] D[d] s[d] >= sum_d y[d] required[d] D[d]

where `u[g]` are the group's units left in the case and `s` the share not served (by linear programming's duality: the
left side is the most that units can earn when a demand pays `y[d]` for each request). The weights that the relaxation
prices its demands with give one such row for each case and month, which together are as tight as all routes; others
are found as they are missed. Every such row holds for every plan, so a bound of a projected model is one of the model.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy
from numpy.typing import NDArray

from secondsource.planner.model import Model
from secondsource.planner.solve import Effort, Solution, Status, solve_linear
from secondsource.planner.sparse import INFINITY, Sparse, Tag
from secondsource.planner.variables import Variables

Weights = Mapping[str, float]  # of demands, by key
Numbers = NDArray[numpy.float64]
Columns = NDArray[numpy.int64]  # of the projection

_MISSED = 1e-6  # units short from which a case counts as not served
_TINY = 1e-9
_AT_ONCE = 3  # rows of a block added at once: the ones missed most; more make every search slower
_SEEDED = 4  # months: every so manieth one's prices are tried as weights in all others


@dataclass(frozen=True, slots=True)
class Block:
    """The routing of one case in one month: what demands ask for, and the units left by row of capacity."""

    case: str
    month: int
    demands: tuple[str, ...]  # keys
    required: Numbers  # by demand
    rates: Numbers  # by row of capacity and demand, in the demand row's own units
    units: Columns  # units in service that are left in the case
    row_of: Columns  # of each of `units`: its row of capacity
    held: Numbers  # by row of capacity: units already under contract
    short: Columns  # the shares not served
    short_of: Columns  # of each of `short`: its demand
    short_rates: Numbers

    def left(self, point: Numbers) -> Numbers:
        """Return the units left at a point, by row of capacity."""
        return self.held + numpy.bincount(self.row_of, point[self.units], minlength=len(self.held))

    def given_up(self, point: Numbers) -> Numbers:
        """Return what is not served at a point, by demand."""
        rates = self.short_rates * point[self.short]
        return numpy.zeros(len(self.required)) + numpy.bincount(self.short_of, rates, minlength=len(self.required))


@dataclass(frozen=True, slots=True)
class Cut:
    """A row over units, `values @ columns >= asked`, that a block implies; scaled so that the block asks for 1."""

    tag: Tag
    columns: Columns
    values: Numbers
    asked: float

    @property
    def terms(self) -> list[tuple[int, float]]:
        """The row's (column, coefficient) terms."""
        return list(zip(self.columns.tolist(), self.values.tolist(), strict=True))

    def short(self, point: Sequence[float] | Numbers) -> float:
        """Return by how much a point does not keep the row."""
        return self.asked - float(self.values @ numpy.asarray(point)[self.columns])

    def missed(self, point: Sequence[float] | Numbers) -> bool:
        """Whether a point does not keep the row."""
        return self.short(point) > _MISSED


@dataclass(slots=True)
class Projection:
    """A model without routes, by months. `cuts` grows as rows are found to be missed; its owner is the search."""

    model: Model
    sparse: Sparse
    place: dict[int, int]  # the model's column: the projection's
    columns: dict[int, list[int]]  # by month
    rows: dict[int, list[int]]
    source: list[int]  # the model's row of each row
    blocks: dict[int, list[Block]]
    service: dict[int, list[tuple[int, int]]]  # of each start: the months of its term, and the units in service then
    cuts: dict[int, list[Cut]] = field(default_factory=lambda: defaultdict(list))
    weights: list[Weights] = field(default_factory=list)
    drawn: dict[tuple[str, int], list[Cut | None]] = field(default_factory=lambda: defaultdict(list))  # of `weights`

    def copy(self) -> "Projection":
        """Return the same projection with rows over units of its own, for a search beside another."""
        cuts = defaultdict(list, {month: list(rows) for month, rows in self.cuts.items()})
        return replace(self, cuts=cuts, weights=list(self.weights), drawn=defaultdict(list))


def project(model: Model, relaxation: Solution) -> Projection | None:
    """Return the model without routes, or None where it has parts that belong to no month (as with futures)."""
    months = _month_of(model.variables)
    if len(months) < len(model.sparse.cost) or relaxation.status is not Status.OPTIMAL:
        return None
    if any(tag.month is None for tag in model.sparse.tags):
        return None
    projection = _without_routes(model, months)
    prices: dict[tuple[str, int], dict[str, float]] = defaultdict(dict)
    for row, tag in enumerate(model.sparse.tags):
        if tag.family == "demand":
            prices[tag.case, tag.month or 0][tag.subject] = relaxation.prices[row]
    for blocks in projection.blocks.values():
        for block in blocks:
            weights = prices[block.case, block.month]
            if _keep(projection, block, weights) and block.month % _SEEDED == 0:
                projection.weights.append(weights)
    return projection


def _without_routes(model: Model, months: Mapping[int, int]) -> Projection:
    whole = model.sparse
    sums = _pools(model)
    left_out = {*model.variables.served.values(), *sums}
    projection = Projection(model, Sparse(), {}, defaultdict(list), defaultdict(list), [], defaultdict(list), {})
    for column, cost in enumerate(whole.cost):
        if column not in left_out:
            bounds = whole.column_lower[column], whole.column_upper[column]
            place = projection.sparse.column(*bounds, whole.integer[column])
            projection.sparse.cost[place] = cost
            projection.place[column] = place
            projection.columns[months[column]].append(place)
    demands: dict[tuple[str, int], list[int]] = defaultdict(list)
    capacities: dict[tuple[str, int], list[int]] = defaultdict(list)
    for row, tag in enumerate(whole.tags):
        month = tag.month or 0
        if tag.family == "demand":
            demands[tag.case, month].append(row)
        elif tag.family == "capacity":
            capacities[tag.case, month].append(row)
        elif tag.family != "pool":
            _copy_row(projection, row)
    for (case, month), rows in demands.items():
        projection.blocks[month].append(_block(projection, sums, rows, capacities.get((case, month), [])))
    projection.service.update(_service(projection))
    return projection


def _pools(model: Model) -> dict[int, int]:
    """Return the row that says what each column of a pool's units is the sum of."""
    whole = model.sparse
    columns = frozenset(model.variables.pool.values())
    rows = (row for row, tag in enumerate(whole.tags) if tag.family == "pool")
    return {column: row for row in rows for column, _ in whole.terms(row) if column in columns}


def _copy_row(projection: Projection, row: int) -> None:
    whole = projection.model.sparse
    tag = whole.tags[row]
    terms = [(projection.place[column], value) for column, value in whole.terms(row)]
    added = projection.sparse.row(tag, terms, whole.row_lower[row], whole.row_upper[row])
    projection.rows[tag.month or 0].append(added)
    projection.source.append(row)


def _service(projection: Projection) -> dict[int, list[tuple[int, int]]]:
    variables, place = projection.model.variables, projection.place
    last = len(projection.columns)
    service: dict[int, list[tuple[int, int]]] = {}
    for (r, month), column in variables.start.items():
        months = range(month, min(last, month + max(1, projection.model.term_months[r])))
        service[place[column]] = [(at, place[variables.active[r, at]]) for at in months]
    return service


def reduced_costs(sparse: Sparse, relaxation: Solution, but: str = "") -> list[float]:
    """Return each column's cost less its worth at the relaxation's prices; rows of the family `but` do not count."""
    reduced = list(sparse.cost)
    for row, price in enumerate(relaxation.prices):
        if price and sparse.tags[row].family != but:
            for column, value in sparse.terms(row):
                reduced[column] -= price * value
    return reduced


def later_costs(projection: Projection, relaxation: Solution) -> dict[int, float]:
    """Return what a unit in service costs in its month at the whole model's prices, by the projection's column."""
    reduced = reduced_costs(projection.model.sparse, relaxation, but="term")
    return {projection.place[column]: reduced[column] for column in projection.model.variables.active.values()}


def _block(projection: Projection, sums: Mapping[int, int], rows: list[int], capacities: list[int]) -> Block:
    """Return a block: `routes - pools <= 0` by row of capacity, and `pool - units in service = held` by pool."""
    whole, place = projection.model.sparse, projection.place
    units: list[tuple[int, int]] = []
    held = [whole.row_upper[row] for row in capacities]
    route_of: dict[int, int] = {}
    for index, row in enumerate(capacities):
        for pool, _ in whole.terms(row):
            if pool in sums:
                held[index] += whole.row_lower[sums[pool]]
                units += [(place[column], index) for column, _ in whole.terms(sums[pool]) if column != pool]
            else:
                route_of[pool] = index
    rates = numpy.zeros((len(capacities), len(rows)))
    short: list[tuple[int, int, float]] = []
    for demand, row in enumerate(rows):
        for column, value in whole.terms(row):
            if column in place:
                short.append((place[column], demand, value))
            else:
                rates[route_of[column], demand] = value
    tag = whole.tags[rows[0]]
    return Block(
        case=tag.case,
        month=tag.month or 0,
        demands=tuple(whole.tags[row].subject for row in rows),
        required=numpy.array([whole.row_lower[row] for row in rows]),
        rates=rates,
        units=numpy.array([column for column, _ in units], dtype=numpy.int64),
        row_of=numpy.array([row for _, row in units], dtype=numpy.int64),
        held=numpy.array(held, dtype=numpy.float64),
        short=numpy.array([column for column, _, _ in short], dtype=numpy.int64),
        short_of=numpy.array([demand for _, demand, _ in short], dtype=numpy.int64),
        short_rates=numpy.array([value for _, _, value in short], dtype=numpy.float64),
    )


def _cut(block: Block, weights: Weights) -> Cut | None:
    """Return the block's row over units for weights of its demands; None for one that asks for nothing."""
    worth = numpy.array([max(0.0, weights.get(key, 0.0)) for key in block.demands])
    asked = float(worth @ block.required)
    if asked <= _TINY:
        return None
    best = (block.rates * worth).max(axis=1, initial=0.0)
    columns = numpy.concatenate([block.units, block.short])
    values = numpy.concatenate([best[block.row_of], worth[block.short_of] * block.short_rates]) / asked
    some = values > 0
    tag = Tag("units", block.case, block.month)
    return Cut(tag, columns[some], values[some], 1.0 - float(best @ block.held) / asked)


def _keep(projection: Projection, block: Block, weights: Weights) -> bool:
    cut = _cut(block, weights)
    if cut is None:
        return False
    projection.cuts[block.month].append(cut)
    return True


def add_missed(projection: Projection, month: int, point: Sequence[float] | Numbers, exact: bool) -> int:
    """Add the rows over units that a point misses in a month, and return how many.

    Weights found before are tried first. With `exact`, a block that keeps those is routed: where that falls short,
    its prices are new weights. No row added with `exact` means that the month's traffic can be routed.
    """
    added = 0
    at = numpy.asarray(point, dtype=numpy.float64)
    for block in projection.blocks[month]:
        drawn = projection.drawn[block.case, block.month]
        drawn += [_cut(block, weights) for weights in projection.weights[len(drawn) :]]
        missed = [(cut.short(at), number) for number, cut in enumerate(drawn) if cut is not None and cut.missed(at)]
        worst = [cut for _, number in sorted(missed, reverse=True)[:_AT_ONCE] if (cut := drawn[number]) is not None]
        projection.cuts[month].extend(worst)
        added += len(worst)
        if worst or not exact:
            continue
        weights = _shortage(block, at)
        if weights is not None and _keep(projection, block, weights):
            projection.weights.append(weights)
            added += 1
    return added


def _shortage(block: Block, point: Numbers) -> Weights | None:
    """Return the weights by which the units of a point cannot serve a block, or None where they can."""
    sub = Sparse()
    routes: list[list[tuple[int, float]]] = [[] for _ in block.demands]
    for units, rates in zip(block.left(point), block.rates, strict=True):
        if units > _TINY:
            own = [(sub.column(), demand) for demand in numpy.flatnonzero(rates)]
            for column, demand in own:
                routes[demand].append((column, float(rates[demand])))
            sub.row(Tag("capacity", ""), [(column, 1.0) for column, _ in own], -INFINITY, float(units))
    first = len(sub.tags)
    for terms, asked in zip(routes, block.required - block.given_up(point), strict=True):
        short = sub.column()
        sub.cost[short] = 1.0
        sub.row(Tag("demand", ""), [(short, 1.0), *terms], float(asked), INFINITY)
    solution = solve_linear(sub, Effort(threads=1))
    if solution.objective <= _MISSED:
        return None
    return dict(zip(block.demands, solution.prices[first:], strict=True))


def _month_of(variables: Variables) -> dict[int, int]:
    """Return the month that each column belongs to."""
    months: dict[int, int] = {}
    for placed in (variables.start, variables.active, variables.ordered, variables.spend, variables.short):
        months.update({column: month for (_, month), column in placed.items()})
    months.update({column: month for (_, _, month), column in variables.pool.items()})
    months.update({column: month for (_, _, _, month), column in variables.served.items()})
    return months
