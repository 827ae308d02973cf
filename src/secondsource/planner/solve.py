"""The one place that talks to the solver, HiGHS: a sparse model in, a point with its prices out."""

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import highspy
import numpy

from secondsource.core.errors import SecondsourceError
from secondsource.planner.sparse import Sparse

_WHOLE = 1e-5  # a column this near to a whole number is whole
_NEAR = 0.6  # a fraction from which on a dive rounds several up at once
_TICK_S = 0.1  # how often Ctrl-C is looked for
_FAREWELL_S = 5.0  # how long a cancelled solve is waited for
INTERIOR_FROM_ROWS = 4000  # below it simplex is faster; measured by `secondsource bench plan`


class Status(StrEnum):
    """How a solve ended."""

    OPTIMAL = "optimal"  # to the gap asked for
    STOPPED = "stopped"  # out of time; the point, if any, and the bound hold
    INFEASIBLE = "infeasible"


@dataclass(frozen=True, slots=True)
class Solution:
    """A point and its proof, in the model's own units; `point` is empty when there is none.

    `prices` (row duals) are there after a linear solve only.
    """

    status: Status
    objective: float
    bound: float
    point: Sequence[float]
    prices: Sequence[float]


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to try and how near is near enough. Points that cost more than `limit` are not looked for."""

    seconds: float = 30.0
    gap: float = 1e-4
    threads: int = 2
    progress: Callable[[str], None] | None = None
    limit: float = math.inf
    near: float = 1e-6  # in units of cost; the search ends at this or at `gap`
    stop: threading.Event | None = None  # set by another thread to end the search where it is
    proof: bool = False  # points are not wanted, only the bound
    proved: Callable[[float], None] | None = None  # told the bound of a search for whole units as it rises


def solve_linear(model: Sparse, effort: Effort) -> Solution:
    """Solve with every variable continuous, to optimality, with row prices."""
    highs = _load(model, relaxed=True, effort=effort)
    if len(model.tags) >= INTERIOR_FROM_ROWS:
        _set(highs, "solver", "ipx")
        _set(highs, "run_crossover", "on")
    _run(highs)
    return _read(highs, relaxed=True)


def solve_relaxation(model: Sparse, effort: Effort) -> tuple[Solution, Solution]:
    """Solve as `solve_linear` does, twice over: at a corner of the optimal points, and in their middle.

    A corner has the fewest columns in use. In the middle of the optimal prices, what is not used costs more than it is
    worth wherever that can be. Below `INTERIOR_FROM_ROWS` rows the two are one.
    """
    if len(model.tags) < INTERIOR_FROM_ROWS:
        corner = solve_linear(model, effort)
        return corner, corner
    highs = _load_central(model, effort)
    _run(highs)
    central = _read(highs, relaxed=True)
    if central.status is Status.INFEASIBLE:
        return central, central
    if central.status is not Status.OPTIMAL:  # the middle was not reached; a corner may be
        corner = solve_linear(model, effort)
        return corner, corner
    middle = highs.getSolution()
    _run(highs, work=lambda: highs.crossover(middle))
    corner = _read(highs, relaxed=True)
    return (corner if corner.status is Status.OPTIMAL else solve_linear(model, effort)), central


def solve_centrally(model: Sparse, effort: Effort) -> Solution:
    """Solve with every variable continuous, to prices from the middle of the optimal ones."""
    highs = _load_central(model, effort)
    _run(highs)
    return _read(highs, relaxed=True)


def _load_central(model: Sparse, effort: Effort) -> highspy.Highs:
    highs = _load(model, relaxed=True, effort=effort)
    _set(highs, "solver", "ipx")
    _set(highs, "run_crossover", "off")
    return highs


def solve_whole(model: Sparse, effort: Effort, hint: Sequence[float] = ()) -> Solution:
    """Solve with whole variables whole, to `effort.gap`, starting from `hint` when there is one."""
    highs = _load(model, relaxed=False, effort=effort)
    _set(highs, "mip_rel_gap", effort.gap)
    _set(highs, "mip_abs_gap", effort.near)
    _set(highs, "objective_bound", effort.limit)
    if effort.proof:
        _set(highs, "mip_heuristic_effort", 0.0)
    if (proved := effort.proved) is not None:
        highs.cbMipInterrupt += lambda event: proved(event.data_out.mip_dual_bound)
    if len(hint):
        known = highspy.HighsSolution()
        known.col_value = list(hint)
        highs.setSolution(known)
    _run(highs, effort.stop)
    return _read(highs, relaxed=False)


def solve_by_diving(model: Sparse, whole: Sequence[int], effort: Effort) -> Solution:
    """Round a relaxation up bit by bit, solving anew in between: a point whole in the columns `whole`, or none.

    Each round raises the lower bounds of the fractions nearest to their next whole number, a fifth of them at
    most; what they hold then frees the rest. Finds good points where few units of many offers are wanted and
    branching does not; proves nothing.
    """
    began = time.monotonic()
    highs = _load(model, relaxed=True, effort=effort)
    _set(highs, "solver", "ipx")
    while True:
        _run(highs)
        if highs.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            return Solution(Status.STOPPED, 0.0, 0.0, (), ())
        point = highs.getSolution().col_value
        parts = sorted(((point[column] - math.floor(point[column] + _WHOLE), column) for column in whole), reverse=True)
        parts = [(part, column) for part, column in parts if part > _WHOLE]
        if not parts:
            return _read(highs, relaxed=True)
        left = effort.seconds - (time.monotonic() - began)
        if left <= 0:
            return Solution(Status.STOPPED, 0.0, 0.0, (), ())
        near = [column for part, column in parts if part >= _NEAR][: max(1, len(parts) // 5)] or [parts[0][1]]
        for column in near:
            highs.changeColBounds(column, float(math.ceil(point[column] - _WHOLE)), model.column_upper[column])
        _set(highs, "solver", "simplex")  # from the last basis, which the new bounds hardly move
        _set(highs, "presolve", "off")
        _set(highs, "time_limit", highs.getRunTime() + left)


def _run(highs: highspy.Highs, stop: threading.Event | None = None, work: Callable[[], object] | None = None) -> None:
    """Run, or do other work, to the end in a thread, so that Ctrl-C is heard meanwhile, and two may work at once."""
    highs.HandleUserInterrupt = True
    worker = threading.Thread(target=_work, args=(work or highs.run,), daemon=True)
    worker.start()
    try:
        while worker.is_alive():
            worker.join(_TICK_S)
            if stop is not None and stop.is_set():
                highs.cancelSolve()  # type: ignore[no-untyped-call]
    except KeyboardInterrupt:
        highs.cancelSolve()  # type: ignore[no-untyped-call]
        worker.join(_FAREWELL_S)
        raise


def _work(work: Callable[[], object]) -> None:
    work()
    highspy.Highs.resetGlobalScheduler(False)  # of this thread alone: the next solve may have other threads


def _load(model: Sparse, relaxed: bool, effort: Effort) -> highspy.Highs:
    highs = highspy.Highs()  # type: ignore[no-untyped-call]
    _set(highs, "output_flag", False)
    _set(highs, "threads", effort.threads)
    _set(highs, "time_limit", effort.seconds)
    lp = highspy.HighsLp()
    lp.num_col_ = len(model.cost)
    lp.num_row_ = len(model.tags)
    lp.col_cost_ = numpy.asarray(model.cost, dtype=numpy.double)
    lp.col_lower_ = numpy.asarray(model.column_lower, dtype=numpy.double)
    lp.col_upper_ = numpy.asarray(model.column_upper, dtype=numpy.double)
    lp.row_lower_ = numpy.asarray(model.row_lower, dtype=numpy.double)
    lp.row_upper_ = numpy.asarray(model.row_upper, dtype=numpy.double)
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_ = numpy.asarray(model.starts, dtype=numpy.int32)
    lp.a_matrix_.index_ = numpy.asarray(model.indices, dtype=numpy.int32)
    lp.a_matrix_.value_ = numpy.asarray(model.values, dtype=numpy.double)
    if not relaxed:
        whole, free = highspy.HighsVarType.kInteger, highspy.HighsVarType.kContinuous
        lp.integrality_ = [whole if integer else free for integer in model.integer]
    if highs.passModel(lp) == highspy.HighsStatus.kError:
        raise SecondsourceError("the solver refused the model; this is a fault of the planner, not of the SPEC")
    return highs


def _set(highs: highspy.Highs, option: str, value: bool | float | str) -> None:
    if highs.setOptionValue(option, value) != highspy.HighsStatus.kOk:
        raise SecondsourceError(f"the solver has no option {option} = {value!r}; install the [plan] extra")


def _read(highs: highspy.Highs, relaxed: bool) -> Solution:
    status = highs.getModelStatus()
    info = highs.getInfo()
    infeasible = {highspy.HighsModelStatus.kInfeasible, highspy.HighsModelStatus.kUnboundedOrInfeasible}
    if status in infeasible:
        return Solution(Status.INFEASIBLE, 0.0, 0.0, (), ())
    found = info.primal_solution_status == highspy.kSolutionStatusFeasible
    solution = highs.getSolution()
    optimal = status == highspy.HighsModelStatus.kOptimal
    return Solution(
        status=Status.OPTIMAL if optimal else Status.STOPPED,
        objective=info.objective_function_value,
        bound=info.objective_function_value if relaxed else info.mip_dual_bound,
        point=list(solution.col_value) if found else (),
        prices=list(solution.row_dual) if relaxed and found else (),
    )
