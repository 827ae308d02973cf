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

from secondsource.planner.model import Model
from secondsource.planner.solve import Effort, Solution, Status, solve_linear
from secondsource.planner.sparse import INFINITY, Sparse, Tag
from secondsource.planner.variables import Variables

Weights = Mapping[str, float]  # of demands, by key

_MISSED = 1e-6  # units short from which a case counts as not served
_TINY = 1e-9
_SEEDED = 4  # months: every so manieth one's prices are tried as weights in all others


@dataclass(frozen=True, slots=True)
class Block:
    """The routing of one case in one month: its rows, and by row of capacity the units left."""

    case: str
    month: int
    demands: tuple[int, ...]
    capacities: tuple[int, ...]
    left: tuple["Units", ...]


@dataclass(frozen=True, slots=True)
class Units:
    """A sum of units in service (columns of the projection), and of units already held."""

    columns: tuple[int, ...]
    held: float

    def at(self, point: Sequence[float]) -> float:
        """Return the sum at a point."""
        return self.held + sum(point[column] for column in self.columns)


@dataclass(frozen=True, slots=True)
class Cut:
    """A row over units, `terms >= asked`, that a block's routes imply; scaled so that the block asks for 1 in all."""

    tag: Tag
    terms: tuple[tuple[int, float], ...]
    asked: float

    def missed(self, point: Sequence[float]) -> bool:
        """Whether a point does not keep the row."""
        return sum(value * point[column] for column, value in self.terms) < self.asked - _MISSED


@dataclass(slots=True)
class Projection:
    """A model without routes, by months. `cuts` grows as rows are found to be missed; its owner is the search."""

    model: Model
    sparse: Sparse
    place: dict[int, int]  # the model's column: the projection's
    columns: dict[int, list[int]]  # by month
    rows: dict[int, list[int]]
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
    for blocks in projection.blocks.values():
        for block in blocks:
            weights = {model.sparse.tags[row].subject: relaxation.prices[row] for row in block.demands}
            if _keep(projection, block, weights) and block.month % _SEEDED == 0:
                projection.weights.append(weights)
    return projection


def _without_routes(model: Model, months: Mapping[int, int]) -> Projection:
    whole = model.sparse
    sums = _pools(model)
    left_out = {*model.variables.served.values(), *sums}
    projection = Projection(model, Sparse(), {}, defaultdict(list), defaultdict(list), defaultdict(list), {})
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
        capacity = tuple(capacities.get((case, month), ()))
        left = tuple(_left(projection, sums, row) for row in capacity)
        projection.blocks[month].append(Block(case, month, tuple(rows), capacity, left))
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


def _left(projection: Projection, sums: Mapping[int, int], row: int) -> Units:
    """Return the units that a row of capacity has left: `routes - pools <= 0`, `pool - units in service = held`."""
    whole = projection.model.sparse
    columns: list[int] = []
    held = whole.row_upper[row]
    for pool, _ in whole.terms(row):
        if pool in sums:
            held += whole.row_lower[sums[pool]]
            columns += [projection.place[column] for column, _ in whole.terms(sums[pool]) if column != pool]
    return Units(tuple(columns), held)


def _cut(projection: Projection, block: Block, weights: Weights) -> Cut | None:
    """Return the block's row over units for weights of its demands; None for one that asks for nothing."""
    whole = projection.model.sparse
    worth: dict[int, float] = {}
    terms: dict[int, float] = defaultdict(float)
    asked = held = 0.0
    for row in block.demands:
        weight = max(0.0, weights.get(whole.tags[row].subject, 0.0))
        asked += weight * whole.row_lower[row]
        for column, value in whole.terms(row):
            if column in projection.place:
                terms[projection.place[column]] += weight * value
            else:
                worth[column] = weight * value
    if asked <= _TINY:
        return None
    for row, left in zip(block.capacities, block.left, strict=True):
        best = max(worth.get(column, 0.0) for column, _ in whole.terms(row))
        held += best * left.held
        for column in left.columns:
            terms[column] += best
    kept = tuple((column, value / asked) for column, value in terms.items() if value > 0)
    return Cut(Tag("units", block.case, block.month), kept, 1.0 - held / asked)


def _keep(projection: Projection, block: Block, weights: Weights) -> bool:
    cut = _cut(projection, block, weights)
    if cut is None:
        return False
    projection.cuts[block.month].append(cut)
    return True


def add_missed(projection: Projection, month: int, point: Sequence[float], exact: bool) -> int:
    """Add the rows over units that a point misses in a month, and return how many.

    Weights found before are tried first. With `exact`, a block that keeps those is routed: where that falls short,
    its prices are new weights. No row added with `exact` means that the month's traffic can be routed.
    """
    added = 0
    for block in projection.blocks[month]:
        drawn = projection.drawn[block.case, block.month]
        drawn += [_cut(projection, block, weights) for weights in projection.weights[len(drawn) :]]
        worst = [cut for cut in drawn if cut is not None and cut.missed(point)]
        projection.cuts[month].extend(worst)
        added += len(worst)
        if worst or not exact:
            continue
        weights = _shortage(projection, block, point)
        if weights is not None and _keep(projection, block, weights):
            projection.weights.append(weights)
            added += 1
    return added


def _shortage(projection: Projection, block: Block, point: Sequence[float]) -> Weights | None:
    """Return the weights by which the units of a point cannot serve a block, or None where they can."""
    whole = projection.model.sparse
    sub = Sparse()
    routes: dict[int, int] = {}
    for row, left in zip(block.capacities, block.left, strict=True):
        units = left.at(point)
        if units > _TINY:
            own = [column for column, _ in whole.terms(row) if column not in projection.place]
            routes.update({column: sub.column() for column in own})
            sub.row(Tag("capacity", ""), [(routes[column], 1.0) for column in own], -INFINITY, units)
    first = len(sub.tags)
    for row in block.demands:
        short = sub.column()
        sub.cost[short] = 1.0
        terms = [(short, 1.0)]
        given = 0.0
        for column, value in whole.terms(row):
            if column in projection.place:
                given += value * point[projection.place[column]]
            elif column in routes:
                terms.append((routes[column], value))
        sub.row(Tag("demand", ""), terms, whole.row_lower[row] - given, INFINITY)
    solution = solve_linear(sub, Effort(threads=1))
    if solution.objective <= _MISSED:
        return None
    prices = solution.prices[first:]
    return {whole.tags[row].subject: price for row, price in zip(block.demands, prices, strict=True)}


def _month_of(variables: Variables) -> dict[int, int]:
    """Return the month that each column belongs to."""
    months: dict[int, int] = {}
    for placed in (variables.start, variables.active, variables.ordered, variables.spend, variables.short):
        months.update({column: month for (_, month), column in placed.items()})
    months.update({column: month for (_, _, month), column in variables.pool.items()})
    months.update({column: month for (_, _, _, month), column in variables.served.items()})
    return months
