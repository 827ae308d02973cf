"""A bound above the relaxation's where few units of a fair number of offers are wanted: all months at once.

Where a model without routes is small, the solver's own cuts and branches prove more of it, and sooner, than its months
by themselves (`planner.bounds`). They prove more again where a good plan is known, for what costs more need not be
looked at, and with the rows over units that were missed on the way to it. So that is waited for.
"""

import time
from dataclasses import replace

from secondsource.planner.bounds import ROUNDING, Bound
from secondsource.planner.projection import Projection
from secondsource.planner.solve import Effort, Solution, Status, solve_whole
from secondsource.planner.windows import Setting, window_of

_SMALL = 20_000  # coefficients: up to which cuts are found in seconds
_TICK_S = 0.05
_LEFT = 0.75  # of the time: when no plan is found by then, it is done without one


def is_small(projection: Projection) -> bool:
    """Return whether a projection's months are better proved all at once."""
    return len(projection.sparse.values) + sum(map(len, projection.cuts.values())) <= _SMALL


def raise_at_once(setting: Setting, relaxation: Solution, effort: Effort, bound: Bound) -> None:
    """Raise the bound for the effort's seconds, or until it is told to stop; a plan is waited for, a while."""
    ends_at = time.monotonic() + effort.seconds
    while bound.known is None and not bound.stop.wait(_TICK_S) and time.monotonic() < ends_at - _LEFT * effort.seconds:
        pass
    known = bound.known
    projection = known.projection if known else setting.projection
    window = window_of(replace(setting, projection=projection), 0, len(projection.columns))
    whole = frozenset(at for service in projection.service.values() for _, at in service)
    integer = [projection.sparse.integer[column] or column in whole for column in window.columns]

    def proved(objective: float) -> None:
        bound.raised = max(bound.raised, objective - relaxation.bound - ROUNDING * setting.scale)

    left = ends_at - time.monotonic()
    alone = Effort(seconds=left, gap=0.0, threads=1, stop=bound.stop, proof=True, proved=proved)
    hint = [known.point[column] for column in window.columns] if known else ()
    solution = solve_whole(replace(window.sparse, integer=integer), alone, hint)
    if solution.status is not Status.INFEASIBLE:
        proved(solution.bound)
