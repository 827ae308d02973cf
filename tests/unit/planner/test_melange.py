import json
from pathlib import Path

import pytest

from secondsource.cli.main import main
from secondsource.core.errors import InputError
from secondsource.planner.bench_cases import melange_case
from secondsource.planner.melange import answer, case_problem, load_case
from secondsource.planner.melange_ilp import solve_as_melange
from secondsource.planner.planning import plan_problem
from secondsource.planner.search import Target
from secondsource.planner.solve import Effort

CASE = {
    "gpu_info": {
        "small": {"cost": 1.0, "tputs": [[4, 1], [6, 3]]},
        "large": {"cost": 3.5, "tputs": [[16, 2], [40, 16]]},
    },
    "workload_distribution": [[0.25, 0.25], [0.25, 0.25]],
    "total_request_rate": 24.0,
    "slice_factor": 1,
}


def test_the_importer_prints_cost_units_and_gap(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "case.json"
    path.write_text(json.dumps(CASE))
    assert main(["plan", "--from-melange", str(path), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert set(said["units"]) == {"small", "large"}
    cost = said["units"]["small"] * 1.0 + said["units"]["large"] * 3.5
    assert said["usd_per_hour"] == pytest.approx(cost)
    assert said["gap"] <= 0.001
    theirs = solve_as_melange(load_case(path), Effort(gap=0.0))
    assert said["usd_per_hour"] <= theirs.objective + 1e-6


def test_never_dearer_than_its_formulation_and_sometimes_cheaper() -> None:
    cheaper = 0
    for seed in range(20):
        case = melange_case(seed)
        theirs = solve_as_melange(case, Effort(seconds=20.0, gap=0.0))
        ours = answer(case, plan_problem(case_problem(case), Target(gap=0.0, seconds=20.0), {}).plan)
        assert ours.usd_per_hour <= theirs.objective + 1e-6
        cheaper += ours.usd_per_hour < theirs.objective - 1e-6
    assert cheaper >= 1


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("total_request_rate", -1.0, "total_request_rate: expected requests/s of 0 or more"),
        ("workload_distribution", [[1.0]], r"gpu_info.small.tputs: expected a matrix of the shape"),
        ("gpu_info", {}, "expected at least one GPU type"),
        ("gpu_info", {"a": {"tputs": [[1, 1], [1, 1]]}}, r"not a case in Mélange's format: .*`cost`"),
    ],
)
def test_a_bad_case_names_the_key(tmp_path: Path, key: str, value: object, says: str) -> None:
    path = tmp_path / "case.json"
    path.write_text(json.dumps({**CASE, key: value}))
    with pytest.raises(InputError, match=says):
        load_case(path)


def test_a_type_may_be_scarce(tmp_path: Path) -> None:
    path = tmp_path / "case.json"
    path.write_text(json.dumps(CASE))
    case = load_case(path)
    free = answer(case, plan_problem(case_problem(case), Target(gap=0.0), {}).plan)
    gpu_info = {name: {**gpu, "max_count": 0} for name, gpu in CASE["gpu_info"].items() if name == "large"}
    path.write_text(json.dumps({**CASE, "gpu_info": {**CASE["gpu_info"], **gpu_info}}))
    scarce_case = load_case(path)
    scarce = answer(scarce_case, plan_problem(case_problem(scarce_case), Target(gap=0.0), {}).plan)
    assert scarce.units["large"] == 0 < free.units["large"]
    assert scarce.usd_per_hour >= free.usd_per_hour
