from secondsource.benchmarking.aims import judge
from secondsource.benchmarking.arithmetic import summarise
from secondsource.benchmarking.records import Slice
from tests.unit.benchmarking.slices import one_slice


def run(ours_done: int, ours_cpu_s: float, ours_p99_us: float) -> list[Slice]:
    return [
        one_slice("vllm-router", done=1000),
        one_slice("secondsource", done=ours_done),
        one_slice("none", "paced", cpu_s=0.0, p99_us=100.0),
        one_slice("vllm-router", "paced", cpu_s=1.0, p99_us=900.0),
        one_slice("secondsource", "paced", cpu_s=ours_cpu_s, p99_us=ours_p99_us),
    ]


def held(slices: list[Slice]) -> list[bool]:
    return [verdict.held for verdict in judge(summarise(slices, "none", "vllm-router"))]


def test_each_aim_is_judged_by_its_own_number_and_its_bound_counts_as_held() -> None:
    assert held(run(2000, 0.85, 900.0)) == [True, True, True]
    assert held(run(1999, 0.85, 900.0)) == [False, True, True]
    assert held(run(2000, 0.86, 900.0)) == [True, False, True]
    assert held(run(2000, 0.85, 901.0)) == [True, True, False]


def test_what_was_not_measured_is_not_judged() -> None:
    assert held([one_slice("secondsource")]) == []
    assert held([one_slice("vllm-router"), one_slice("secondsource", done=5000)]) == [True]
