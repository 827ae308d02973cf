"""Find a plan month by month, and a bound above the relaxation's, where few units of many offers are wanted.

Whole units are chosen on the model without routes (`planner.projection`), by a beam search (`planner.beam`), narrow at
first and then wider. Where that does not come near enough, or is not used, courses are taken: a few months come
first, each with all months before it fixed; what a unit started there costs and saves later is read from the
relaxation's prices, so that a commitment is not judged by its first month alone. The months between are filled in
backwards (`planner.between`). A month by itself is a small model, which is searched nearly to its end. Several courses
are taken, with other months first. The bound is `planner.bounds`, or `planner.bound_at_once` where the model is small.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from secondsource.planner.beam import find_starts
from secondsource.planner.between import Fleet, carry_on, fill_between, fleet_of
from secondsource.planner.bound_at_once import is_small, raise_at_once
from secondsource.planner.bounds import Bound, Known, raise_bound
from secondsource.planner.ground import lay_out
from secondsource.planner.projection import Projection, later_costs, reduced_costs
from secondsource.planner.solve import Effort, Solution, Status, solve_centrally, solve_linear
from secondsource.planner.windows import Searched, Setting, search_window, window_of

# Of each beam search: fleets kept in each month, the time that has to be left, by that of the one before it, and what
# part of it it may have. The narrow ones find rows that the wide ones then need not find.
_WIDTHS = ((1, 1.0, 1.0), (30, 1.0, 0.5), (300, 1.0, 1.0), (1000, 0.5, 1.0), (3000, 0.5, 1.0), (9000, 0.5, 1.0))
_GOOD = 300  # ways at once: what they find helps to prove how good it is
_NONE = Solution(Status.STOPPED, 0.0, 0.0, (), ())
# Months that are chosen first, as parts of all but the last one, which is chosen as well: one row for each course.
_ANCHORS = (
    (0.0, 0.35, 0.7),
    (0.0, 0.3, 0.5, 0.75),
    tuple(number / 100 for number in range(100)),  # all of them, one after the other
    (0.0, 0.5),
    (0.0, 0.2, 0.4, 0.6, 0.8),
    (0.0, 0.65),
    (0.0, 0.4, 0.8),
)
_LOSS = 0.0008  # of the relaxation's cost: what the first month's whole units are taken to cost more than it
_PART = 0.25  # of the time left: what a month that is chosen first may take
_BETWEEN = 0.5  # of an even part of it: what a search for a month between may take
_FAIR = 2.0  # even parts of it: what a month may take that is chosen by itself
_LEAST_MONTH_S = 0.3
_NEAR = 0.1  # of a month's even part of the gap asked for: how near each search comes
_ALONE = 0.5  # of the time: what the plan is searched for where the bound has to wait for it
_ROOM = 0.2  # of the time: when less is spent on a beam search that does not come near enough, courses are taken
_ROUTING = 0.06  # of the time: what is kept for the routes in the end
_LEAST_ROUTING_S = 10.0


@dataclass(frozen=True, slots=True)
class Course:
    """All months' whole units, and what they cost."""

    point: list[float]
    cost: float


def solve_by_months(projection: Projection, relaxation: Solution, effort: Effort) -> Solution:
    """Return a plan chosen month after month, if there was one for each in its time, and a bound of all plans.

    With two threads the bound is searched for beside the plan, and for the rest of the time if the gap needs it.
    """
    began = time.monotonic()
    bound = Bound()
    setting = _setting(projection, relaxation, effort.gap)
    beside = replace(setting, projection=projection.copy())
    prove = raise_at_once if is_small(projection) else raise_bound
    prover = threading.Thread(target=prove, args=(beside, relaxation, effort, bound), daemon=True)
    if effort.threads > 1:
        prover.start()
    try:
        part = 1.0 if effort.threads > 1 else _ALONE
        limited = replace(effort, seconds=part * effort.seconds)
        course = _beam(setting, relaxation, limited, bound)
        spent = time.monotonic() - began
        if course is None or (spent < _ROOM * limited.seconds and not _close(course, relaxation, bound, effort.gap)):
            rest = replace(limited, seconds=limited.seconds - spent)
            course = _better(course, _best_course(setting, relaxation, rest, bound))
        if course and bound.known is None:
            bound.known = Known(projection.copy(), course.point)
        while prover.is_alive() and time.monotonic() - began < effort.seconds * (1 - _ROUTING):
            if course is None or _close(course, relaxation, bound, effort.gap):
                break
            prover.join(0.1)
    finally:
        bound.stop.set()
        if effort.threads > 1:
            prover.join()
    if effort.threads == 1:
        bound.stop.clear()
        prove(setting, relaxation, replace(effort, seconds=effort.seconds - time.monotonic() + began), bound)
    solution = _routed(projection, course.point, effort) if course else _NONE
    return replace(solution, bound=relaxation.bound + bound.raised)


def _close(course: Course, relaxation: Solution, bound: Bound, gap: float) -> bool:
    return course.cost - relaxation.bound - bound.raised <= gap * abs(course.cost)


def _better(one: Course | None, other: Course | None) -> Course | None:
    return min((course for course in (one, other) if course), key=lambda course: course.cost, default=None)


def _beam(setting: Setting, relaxation: Solution, effort: Effort, bound: Bound) -> Course | None:
    """Return the best of several beam searches, each wider than the last."""
    projection = setting.projection
    # Units that come several at once are not added one by one; a month by itself is searched nearly to its end.
    if projection.model.orders_open or len(projection.columns) == 1:
        return None
    ends_at = time.monotonic() + effort.seconds * (1 - _ROUTING)
    ground = lay_out(projection, relaxation)
    say = effort.progress or (lambda _: None)
    best: Course | None = None
    took = 0.0
    for width, longer, part in _WIDTHS:
        began = time.monotonic()
        if best and (_close(best, relaxation, bound, effort.gap) or began + longer * took > ends_at):
            break
        starts = find_starts(ground, width, began + part * (ends_at - began), say)
        took = time.monotonic() - began
        if starts is not None:
            point = ground.point(starts)
            cost = sum(cost * value for cost, value in zip(projection.sparse.cost, point, strict=True))
            if best is None or cost < best.cost:
                best = Course(point, cost)
                say(f"whole units: {width} ways at once found ${cost * 1000:,.0f}")
        if best and bound.known is None and width >= _GOOD:
            bound.known = Known(projection.copy(), best.point)
    return best


def _setting(projection: Projection, relaxation: Solution, gap: float) -> Setting:
    scale = abs(relaxation.objective)
    near = _NEAR * gap * scale / len(projection.columns)
    return Setting(projection, [0.0] * len(projection.sparse.cost), {}, scale, near)


def _best_course(setting: Setting, relaxation: Solution, effort: Effort, bound: Bound) -> Course | None:
    """Return the best of several courses, as many as there is time for."""
    ends_at = time.monotonic() + effort.seconds * (1 - _ROUTING)
    setting = replace(setting, later=later_costs(setting.projection, relaxation))
    fleet = fleet_of(setting.projection)
    end = len(setting.projection.columns) - 1
    best: Course | None = None
    longest = 0.0
    for parts in _ANCHORS:
        began = time.monotonic()
        if best and (_close(best, relaxation, bound, effort.gap) or began + longest > ends_at):
            break
        anchors = sorted({round(part * end) for part in parts} | {end})
        course = _choose(setting, fleet, anchors, replace(effort, seconds=ends_at - began))
        longest = max(longest, time.monotonic() - began)
        if course and (best is None or course.cost < best.cost):
            best = course
            if effort.progress:
                effort.progress(f"whole units: a course of months for ${best.cost * 1000:,.0f}")
    return best


def _choose(setting: Setting, fleet: Fleet, anchors: list[int], effort: Effort) -> Course | None:
    """Return a course: some months chosen with all before them fixed, and the months between filled in after each."""
    ends_at = time.monotonic() + effort.seconds
    previous = -1
    last = len(setting.projection.columns)
    for anchor in anchors:
        if effort.progress:
            effort.progress(f"whole units: month {anchor + 1} of {last}")
        carried = replace(setting, point=carry_on(fleet, setting.point, previous, anchor))
        seconds = max(_LEAST_MONTH_S, _PART * (ends_at - time.monotonic()))
        found = search_window(carried, (anchor, anchor + 1), _LOSS * setting.scale, seconds)
        if found is None:
            return None
        chosen = _with(carried, found, anchor)
        seconds = max(_LEAST_MONTH_S, _BETWEEN * (ends_at - time.monotonic()) / (last - previous))
        filled = fill_between(chosen, fleet, (previous, anchor), seconds)
        if filled is None:
            one_by_one = _forwards(setting, (previous + 1, anchor + 1), ends_at, effort)
            if one_by_one is None:
                return None
            filled = one_by_one.point
        setting = replace(setting, point=filled)
        previous = anchor
        if anchor + 1 < last:
            setting = replace(setting, later=_later(setting, anchor + 1))
    cost = sum(cost * value for cost, value in zip(setting.projection.sparse.cost, setting.point, strict=True))
    return Course(setting.point, cost)


def _forwards(setting: Setting, span: tuple[int, int], ends_at: float, effort: Effort) -> Setting | None:
    """Return the setting with months chosen one after the other, each with all before it fixed."""
    for month in range(*span):
        if effort.progress:
            effort.progress(f"whole units: month {month + 1} of {len(setting.projection.columns)}")
        left = ends_at - time.monotonic()
        seconds = max(_LEAST_MONTH_S, _FAIR * left / (len(setting.projection.columns) - month))
        found = search_window(setting, (month, month + 1), _LOSS * setting.scale, seconds)
        if found is None:
            return None
        setting = _with(setting, found, month)
    return setting


def _with(setting: Setting, found: Searched, month: int) -> Setting:
    """Return the setting with one month's units in its point, whole ones whole."""
    point = list(setting.point)
    mine = frozenset(setting.projection.columns[month])
    for column, value in zip(found.window.columns, found.point, strict=True):
        if column in mine:
            point[column] = float(round(value)) if setting.projection.sparse.integer[column] else value
    return replace(setting, point=point)


def _later(setting: Setting, first: int) -> Mapping[int, float]:
    """Return what units in service cost in later months once the months before `first` are fixed."""
    window = window_of(setting, first, len(setting.projection.columns))
    relaxation = solve_centrally(window.sparse, Effort(threads=1))
    if not relaxation.prices:  # there is no way on from here, or the solver lost itself
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
