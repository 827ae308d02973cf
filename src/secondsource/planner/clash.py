"""Name what clashes in an infeasible SPEC: a set of its statements, none of which can be left out.

Junker's QuickXplain (AAAI 2004) over the statements, feasibility decided by the solver: the set found cannot
be met, and dropping any one of its statements makes the rest possible. Another, different set may exist.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from secondsource.planner.problem import Record
from secondsource.planner.solve import Effort, Status, solve_linear, solve_whole
from secondsource.planner.sparse import Sparse


class Clash(Record, frozen=True, kw_only=True):
    """Statements that cannot all hold, and the first month by which they cannot (None: none by itself)."""

    statements: tuple[str, ...]
    month: int | None


def find_clash(model: Sparse, months: int, effort: Effort) -> Clash:
    """Return a smallest clashing set of an infeasible model: smallest in that none of it can be dropped."""
    free = replace(model, cost=[0.0] * len(model.cost))
    whole = solve_linear(free, effort).status is not Status.INFEASIBLE

    def holds(kept: Sequence[str], until: int | None = None) -> bool:
        part = _only(free, frozenset(kept), until)
        solution = solve_whole(part, effort) if whole else solve_linear(part, effort)
        return solution.status is not Status.INFEASIBLE

    found = _explain(holds, [], list(model.statements()), False)
    return Clash(statements=tuple(found), month=_first_month(holds, found, months))


def _explain(holds: Callable[[Sequence[str]], bool], base: list[str], candidates: list[str], grown: bool) -> list[str]:
    if grown and not holds(base):
        return []
    if len(candidates) <= 1:
        return candidates
    middle = len(candidates) // 2
    left, right = candidates[:middle], candidates[middle:]
    second = _explain(holds, base + left, right, bool(left))
    first = _explain(holds, base + second, left, bool(second))
    return first + second


def _first_month(holds: Callable[[Sequence[str], int | None], bool], found: Sequence[str], months: int) -> int | None:
    low, high = 0, months - 1
    if holds(found, high):
        return None
    while low < high:
        middle = (low + high) // 2
        if holds(found, middle):
            low = middle + 1
        else:
            high = middle
    return low


def _only(model: Sparse, kept: frozenset[str], until: int | None) -> Sparse:
    """Return the model with only the rows in force whose statements are all kept, and no later month's."""
    lower, upper = list(model.row_lower), list(model.row_upper)
    for row, tag in enumerate(model.tags):
        late = until is not None and tag.month is not None and tag.month > until
        if tag.statements and (late or not kept.issuperset(tag.statements)):
            lower[row], upper[row] = -math.inf, math.inf
    return replace(model, row_lower=lower, row_upper=upper)
