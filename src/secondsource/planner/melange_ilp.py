"""Mélange's own formulation, the peer that `bench plan` and the tests hold the planner against.

Each bucket's rate is cut into `slice_factor` equal slices; `x[i,j]` is 1 when slice i goes to GPU type j, and
`y[j]` counts GPUs: minimise `sum_j cost[j] * y[j]` subject to `sum_j x[i,j] = 1` for each slice and
`sum_i rate[i] / tput[i,j] * x[i,j] <= y[j]` for each type (Griggs et al., arXiv:2404.14527, section 5).
"""

from secondsource.planner.melange import Case
from secondsource.planner.solve import Effort, Solution, solve_whole
from secondsource.planner.sparse import INFINITY, Sparse, Tag


def solve_as_melange(case: Case, effort: Effort) -> Solution:
    """Return the formulation's solution; its objective is in dollars an hour."""
    model = Sparse()
    counts = {}
    for name, gpu in case.gpu_info.items():
        upper = INFINITY if gpu.max_count is None else float(gpu.max_count)
        counts[name] = model.column(upper=upper, integer=True)
        model.cost[counts[name]] = gpu.cost
    loads: dict[str, list[tuple[int, float]]] = {name: [] for name in case.gpu_info}
    for i, row in enumerate(case.workload_distribution):
        for j, share in enumerate(row):
            rate = share * case.total_request_rate / case.slice_factor
            if rate <= 0:
                continue
            for _ in range(case.slice_factor):
                _add_slice(model, case, (i, j), rate, loads)
    for name, terms in loads.items():
        model.row(Tag("load", name), [*terms, (counts[name], -1.0)], -INFINITY, 0.0)
    return solve_whole(model, effort)


def _add_slice(
    model: Sparse, case: Case, bucket: tuple[int, int], rate: float, loads: dict[str, list[tuple[int, float]]]
) -> None:
    i, j = bucket
    choices = []
    for name, gpu in case.gpu_info.items():
        if gpu.tputs[i][j] > 0:
            column = model.column(upper=1.0, integer=True)
            choices.append((column, 1.0))
            loads[name].append((column, rate / gpu.tputs[i][j]))
    model.row(Tag("slice", f"{i},{j}"), choices, 1.0, 1.0)
