"""Find a plan month by month: each month's whole units are chosen with all earlier ones fixed.

What a unit started now is worth in later months is read from the relaxation's prices, so that a commitment is not
judged by its first month alone. A month by itself is a small model, which is searched nearly to its end; that
finds good plans where few units of many offers are wanted, and rounding all months at once does not. It proves
nothing: the bound stays the relaxation's.
"""

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from secondsource.planner.model import Model
from secondsource.planner.solve import Effort, Solution, Status, solve_whole
from secondsource.planner.sparse import Sparse
from secondsource.planner.variables import Variables

_NONE = Solution(Status.STOPPED, 0.0, 0.0, (), ())
_PART, _LATE_PART = 0.25, 1.5  # of the gap asked for: how near each month's search comes; when behind time
_FAIR = 2.0  # times an even part of the time left is what a month may take at first
_POOR = 0.03  # from the month's own bound: so far off, a month is searched longer, for all later ones pay for it


@dataclass(frozen=True, slots=True)
class Months:
    """A model cut into months: columns and rows of each, and each column's cost with its worth in later months."""

    sparse: Sparse
    columns: dict[int, list[int]]
    rows: dict[int, list[int]]
    guided: list[float]


def cut(model: Model, relaxation: Solution) -> Months | None:
    """Return the model by months, or None where it has parts that belong to no month (as with futures)."""
    sparse = model.sparse
    month_of = _month_of(model.variables)
    if len(month_of) < len(sparse.cost) or not relaxation.prices:
        return None
    columns: dict[int, list[int]] = defaultdict(list)
    for column in range(len(sparse.cost)):
        columns[month_of[column]].append(column)
    rows: dict[int, list[int]] = defaultdict(list)
    guided = list(sparse.cost)
    for row, tag in enumerate(sparse.tags):
        if tag.month is None:
            return None
        rows[tag.month].append(row)
        for k in range(sparse.starts[row], sparse.starts[row + 1]):
            column = sparse.indices[k]
            if month_of[column] != tag.month:
                guided[column] -= relaxation.prices[row] * sparse.values[k]
    return Months(sparse, columns, rows, guided)


def solve_by_months(months: Months, effort: Effort) -> Solution:
    """Return a plan chosen month after month, or no point where a month found none in its time."""
    began = time.monotonic()
    point = [0.0] * len(months.sparse.cost)
    order = sorted(months.columns)
    for done, month in enumerate(order):
        if effort.progress:
            effort.progress(f"whole units: month {month + 1} of {len(order)}")
        left = effort.seconds - (time.monotonic() - began)
        late = left / effort.seconds < 1 - done / len(order)
        near = replace(effort, gap=effort.gap * (_LATE_PART if late else _PART))
        found = _search(one_month(months, month, point), near, left, len(order) - done)
        if not found.point:
            return _NONE
        for column, value in zip(months.columns[month], found.point, strict=True):
            point[column] = float(round(value)) if months.sparse.integer[column] else value
    objective = sum(cost * value for cost, value in zip(months.sparse.cost, point, strict=True))
    return Solution(Status.STOPPED, objective, 0.0, point, ())


def _search(sub: Sparse, effort: Effort, left: float, months: int) -> Solution:
    """Return a month's plan: searched for a fair part of the time left, and longer where it is poor after that."""
    found = _NONE
    for seconds in (_FAIR * left / months, left / 2):
        if seconds <= 0:
            break
        found = solve_whole(sub, replace(effort, seconds=seconds), found.point)
        if found.point and found.objective - found.bound <= _POOR * abs(found.objective):
            break
    return found


def one_month(months: Months, month: int, point: Sequence[float]) -> Sparse:
    """Return a month's own rows and columns; what earlier months bring into a row is moved to its bounds."""
    whole = months.sparse
    columns = months.columns[month]
    place = {column: index for index, column in enumerate(columns)}
    sub = Sparse(
        cost=[months.guided[column] for column in columns],
        column_lower=[whole.column_lower[column] for column in columns],
        column_upper=[whole.column_upper[column] for column in columns],
        integer=[whole.integer[column] for column in columns],
    )
    for row in months.rows[month]:
        terms: list[tuple[int, float]] = []
        known = 0.0
        for k in range(whole.starts[row], whole.starts[row + 1]):
            index = place.get(whole.indices[k])
            if index is None:
                known += whole.values[k] * point[whole.indices[k]]
            else:
                terms.append((index, whole.values[k]))
        sub.row(whole.tags[row], terms, whole.row_lower[row] - known, whole.row_upper[row] - known)
    return sub


def _month_of(variables: Variables) -> dict[int, int]:
    """Return the month that each column belongs to."""
    months: dict[int, int] = {}
    for placed in (variables.start, variables.active, variables.ordered, variables.spend, variables.short):
        months.update({column: month for (_, month), column in placed.items()})
    months.update({column: month for (_, _, month), column in variables.pool.items()})
    months.update({column: month for (_, _, _, month), column in variables.served.items()})
    return months
