"""Plan a case in the JSON format of Mélange, the published solver for heterogeneous LLM serving.

A case has `gpu_info` (by type: `cost` in $/h and `tputs`, the most requests/s of one GPU by request-size
bucket), `workload_distribution` over the same buckets and `total_request_rate`. Mélange cuts each bucket into
`slice_factor` slices and gives each whole to one type (Griggs et al., arXiv:2404.14527); routing here is
fractional, so no plan of its integer program is cheaper than the one found here.
"""

from pathlib import Path

import msgspec

from secondsource.core.errors import InputError
from secondsource.core.money import NANO_USD, nano_usd
from secondsource.planner.plan import Plan
from secondsource.planner.problem import Demand, Problem, Rental

HOURS = 730  # the case is planned as one month, so that its figures are of the size of any plan's


class GpuType(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU type: dollars an hour, requests/s of one by bucket (0: cannot), and how many there are."""

    cost: float
    tputs: list[list[float]]
    max_count: int | None = None


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A whole case; rows of the matrices are input sizes, columns output sizes."""

    gpu_info: dict[str, GpuType]
    workload_distribution: list[list[float]]
    total_request_rate: float
    slice_factor: int = 1


class MelangeAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What to rent: counts by type, dollars an hour, and the part of them a better answer could save."""

    usd_per_hour: float
    units: dict[str, int]
    gap: float
    bound_usd_per_hour: float
    routes: list[dict[str, float | str | int]]


def load_case(path: Path) -> Case:
    """Return the case in a file; raises InputError naming the key and what was expected."""
    try:
        case = msgspec.json.decode(path.read_bytes(), type=Case)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}; name a case in JSON") from None
    except msgspec.DecodeError as error:
        raise InputError(f"{path}: not a case in Mélange's format: {error}") from None
    _check(path, case)
    return case


def _check(path: Path, case: Case) -> None:
    if not case.gpu_info:
        raise InputError(f"{path}: gpu_info: expected at least one GPU type")
    if case.total_request_rate < 0:
        raise InputError(f"{path}: total_request_rate: expected requests/s of 0 or more")
    shape = [len(row) for row in case.workload_distribution]
    if any(share < 0 for row in case.workload_distribution for share in row):
        raise InputError(f"{path}: workload_distribution: expected shares of 0 or more")
    for name, gpu in case.gpu_info.items():
        if gpu.cost <= 0:
            raise InputError(f"{path}: gpu_info.{name}.cost: expected dollars an hour above 0")
        if [len(row) for row in gpu.tputs] != shape:
            raise InputError(
                f"{path}: gpu_info.{name}.tputs: expected a matrix of the shape of workload_distribution, "
                f"rows of {shape}, got rows of {[len(row) for row in gpu.tputs]}"
            )
        if any(rate < 0 for row in gpu.tputs for rate in row):
            raise InputError(f"{path}: gpu_info.{name}.tputs: expected requests/s of 0 or more")


def case_problem(case: Case) -> Problem:
    """Return the case as a planning problem of one month, one supplier and one pool for each GPU type."""
    buckets = [
        (i, j, share * case.total_request_rate)
        for i, row in enumerate(case.workload_distribution)
        for j, share in enumerate(row)
        if share * case.total_request_rate > 0
    ]
    return Problem(
        months=("now",),
        hours=(HOURS,),
        rentals=tuple(
            Rental(
                key=name,
                pool=name,
                supplier="any",
                vendor="any",
                chip=name,
                chips_per_unit=1,
                term_months=0,
                nano_usd_per_unit_hour=nano_usd(str(gpu.cost)),
                max_units=gpu.max_count,
            )
            for name, gpu in case.gpu_info.items()
        ),
        demands=tuple(
            Demand(key=f"{i},{j}", lane="all", size_class=f"{i},{j}", model="any", peak=(rate,))
            for i, j, rate in buckets
        ),
        rates={name: tuple(gpu.tputs[i][j] for i, j, _ in buckets) for name, gpu in case.gpu_info.items()},
    )


def answer(case: Case, plan: Plan) -> MelangeAnswer:
    """Return a plan of the case in Mélange's terms."""
    units = dict.fromkeys(case.gpu_info, 0)
    for start in plan.starts:
        units[start.offer] += start.units
    return MelangeAnswer(
        usd_per_hour=plan.total / HOURS / NANO_USD,
        units=units,
        gap=plan.gap,
        bound_usd_per_hour=plan.bound_nano_usd / HOURS / NANO_USD,
        routes=[
            {"bucket": route.demand, "type": route.pool, "requests_per_s": route.requests_per_s}
            for route in plan.routes
        ],
    )
