"""Find a plan month by month, and a bound above the relaxation's, where few units of many offers are wanted.

Each month's whole units are chosen with all earlier ones fixed, on the model without routes (`planner.projection`).
What a unit started now costs and saves later is read from the relaxation's prices, so that a commitment is not judged
by its first month alone. A month by itself is a small model, which is searched nearly to its end; that finds good plans
where rounding all months at once does not. Choosing two months together was tried: it was hardly ever better.

The first months by themselves are also a Lagrangian relaxation of the whole model: the rows of later months are kept at
the relaxation's prices, so what whole units cost there above the relaxation, every plan costs.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from secondsource.planner.projection import Projection, later_costs, reduced_costs
from secondsource.planner.solve import Effort, Solution, Status, solve_linear
from secondsource.planner.windows import Searched, Setting, bound_window, search_window, window_of

_NONE = Solution(Status.STOPPED, 0.0, 0.0, (), ())
_REPRICED = (4, 1, 2, 6, 3)  # months after which the relaxation of what is left is solved anew, by search
_LOSS = 0.002  # of the relaxation's cost: what the first month's whole units are taken to cost more than it
_WIDER = 1.5  # times what the last month's did: the next one's
_FAIR = 2.0  # times an even part of the time left is what a month may take
_NEAR = 0.1  # of a month's even part of the gap asked for: how near each search comes
_STEP = 0.001  # of the relaxation's cost: how much more than the months before it a month is taken to add to the bound
_ALL = 0.99  # of what a bound was looked for up to: as good as all of it
_FAR = 100.0  # times the relaxation's cost: no plan costs so much more than it
_ROUTING = 0.1  # of the time: what is kept for the routes in the end
_LEAST_ROUTING_S = 10.0
_ROUNDING = 1e-6  # of the relaxation's cost, off each bound, for the solver's tolerances


@dataclass(slots=True)
class Bound:
    """How far above the relaxation every plan is, as proved so far; one thread raises it, another reads it."""

    raised: float = 0.0
    stop: threading.Event = field(default_factory=threading.Event)


def solve_by_months(projection: Projection, relaxation: Solution, effort: Effort) -> Solution:
    """Return a plan chosen month after month, if there was one for each in its time, and a bound of all plans.

    With two threads the bound is searched for beside the plan, and for the rest of the time if the gap needs it.
    """
    began = time.monotonic()
    bound = Bound()
    prover = threading.Thread(target=_raise_bound, args=(projection.copy(), relaxation, effort, bound), daemon=True)
    if effort.threads > 1:
        prover.start()
    try:
        solution = _best_course(projection, relaxation, effort)
        while prover.is_alive() and time.monotonic() - began < effort.seconds:
            if not solution.point or _close(solution, relaxation.bound + bound.raised, effort.gap):
                break
            prover.join(0.1)
    finally:
        bound.stop.set()
        if effort.threads > 1:
            prover.join()
    if effort.threads == 1:
        _raise_bound(projection, relaxation, replace(effort, seconds=effort.seconds - time.monotonic() + began), bound)
    return replace(solution, bound=relaxation.bound + bound.raised)


def _close(solution: Solution, bound: float, gap: float) -> bool:
    return solution.objective - bound <= gap * abs(solution.objective)


def _setting(projection: Projection, relaxation: Solution, gap: float) -> Setting:
    scale = abs(relaxation.objective)
    near = _NEAR * gap * scale / len(projection.columns)
    return Setting(projection, [0.0] * len(projection.sparse.cost), later_costs(projection, relaxation), scale, near)


def _best_course(projection: Projection, relaxation: Solution, effort: Effort) -> Solution:
    """Return the best plan of several month-by-month searches, as many as there is time for.

    They differ in how often later months are priced anew, which is enough to lead them apart.
    """
    began = time.monotonic()
    best = _NONE
    for repriced in _REPRICED:
        again = time.monotonic()
        solution = _choose(projection, relaxation, replace(effort, seconds=effort.seconds - (again - began)), repriced)
        if solution.point and (not best.point or solution.objective < best.objective):
            best = solution
        now = time.monotonic()
        if now - began + (now - again) > effort.seconds or (best.point and _close(best, relaxation.bound, effort.gap)):
            break
    return best


def _choose(projection: Projection, relaxation: Solution, effort: Effort, repriced: int) -> Solution:
    """Return a plan of which each month is chosen with all earlier ones fixed."""
    began = time.monotonic()
    setting = _setting(projection, relaxation, effort.gap)
    loss = _LOSS * setting.scale
    last = len(projection.columns)
    for first in range(last):
        if effort.progress:
            effort.progress(f"whole units: month {first + 1} of {last}")
        if first and first % repriced == 0:
            setting = replace(setting, later=_later(setting, first, last))
        left = effort.seconds * (1 - _ROUTING) - (time.monotonic() - began)
        found = search_window(setting, (first, first + 1), loss, _FAIR * left / (last - first))
        if found is None:
            return _NONE
        loss = max(setting.near, _WIDER * found.loss)
        setting = _with(setting, found, first)
    return _routed(projection, setting.point, effort)


def _with(setting: Setting, found: Searched, month: int) -> Setting:
    """Return the setting with one month's units in its point, whole ones whole."""
    point = list(setting.point)
    mine = frozenset(setting.projection.columns[month])
    for column, value in zip(found.window.columns, found.point, strict=True):
        if column in mine:
            point[column] = float(round(value)) if setting.projection.sparse.integer[column] else value
    return replace(setting, point=point)


def _later(setting: Setting, first: int, last: int) -> Mapping[int, float]:
    """Return what units in service cost in later months once the months before `first` are fixed."""
    window = window_of(setting, first, last)
    relaxation = solve_linear(window.sparse, Effort(threads=1))
    if not relaxation.prices:
        return setting.later
    reduced = reduced_costs(window.sparse, relaxation, but="term")
    return {column: reduced[index] for index, column in enumerate(window.columns)}


def _routed(projection: Projection, point: list[float], effort: Effort) -> Solution:
    """Return the whole model's point with these units, its traffic routed."""
    whole = projection.model.sparse
    lower, upper = list(whole.column_lower), list(whole.column_upper)
    for column, integer in enumerate(whole.integer):
        if integer:
            lower[column] = upper[column] = float(round(point[projection.place[column]]))
    fixed = replace(whole, column_lower=lower, column_upper=upper)
    routed = solve_linear(
        fixed, Effort(seconds=max(_LEAST_ROUTING_S, effort.seconds * _ROUTING), threads=effort.threads)
    )
    return replace(routed, status=Status.STOPPED) if routed.point else _NONE


def _raise_bound(projection: Projection, relaxation: Solution, effort: Effort, bound: Bound) -> None:
    """Raise the bound by the first two months, then by the first three, and so on while time lasts."""
    ends_at = time.monotonic() + effort.seconds
    setting = _setting(projection, relaxation, effort.gap)
    last = len(projection.columns)
    end = min(2, last)
    loss = end * _STEP * setting.scale
    while end <= last:
        left = ends_at - time.monotonic()
        if left <= 0 or bound.stop.is_set() or loss > _FAR * setting.scale:
            return
        proved = bound_window(setting, (0, end), loss, Effort(seconds=left, threads=1, stop=bound.stop))
        bound.raised = max(bound.raised, proved - _ROUNDING * setting.scale)
        if proved > _ALL * loss:  # these months alone add more: look further before there are more of them
            loss *= 2
        else:
            end += 1
            loss = bound.raised + _STEP * setting.scale
