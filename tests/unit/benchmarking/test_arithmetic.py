import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondsource.benchmarking.arithmetic import middle, ratio, slope, summarise
from tests.unit.benchmarking.slices import one_slice


def test_a_summary_is_of_medians_and_failures_add_up() -> None:
    rounds = [
        one_slice(round=1, done=1000, failed=1, p99_us=300.0),
        one_slice(round=2, done=9000, failed=2, p99_us=100.0),
        one_slice(round=3, done=2000, failed=0, p99_us=200.0),
    ]
    [summary] = summarise(rounds, "none", "vllm-router")
    assert (summary.rate, summary.rate_least, summary.rate_most) == (200.0, 100.0, 900.0)
    assert (summary.rounds, summary.failed, summary.p99_us) == (3, 3, 200.0)
    assert (summary.rate_ratio, summary.added_p99_us) == (None, None)


def test_cpu_is_for_each_answer_and_unknown_without_any() -> None:
    assert one_slice(done=1000, cpu_s=0.02).cpu_us == pytest.approx(20.0)
    assert one_slice(done=0, cpu_s=0.02).cpu_us is None
    assert one_slice(done=1000, cpu_s=0.0).cpu_us is None


def test_ratios_are_to_the_baseline_and_added_times_to_no_gateway_in_the_same_row() -> None:
    slices = [
        one_slice("none", "paced", p50_us=50.0, p99_us=80.0, cpu_s=0.0),
        one_slice("vllm-router", "paced", done=500, cpu_s=0.02),
        one_slice("secondsource", "paced", done=1000, cpu_s=0.02, p50_us=90.0, p99_us=280.0),
        one_slice("secondsource", "plain-64"),
    ]
    bare, theirs, ours, alone = summarise(slices, "none", "vllm-router")
    assert (ours.rate_ratio, ours.cpu_ratio) == (2.0, 0.5)
    assert (ours.added_p50_us, ours.added_p99_us) == (40.0, 200.0)
    assert (theirs.rate_ratio, theirs.cpu_ratio) == (1.0, 1.0)
    assert bare.added_p99_us is None
    assert (alone.rate_ratio, alone.added_p99_us) == (None, None)


def test_what_is_unknown_stays_unknown() -> None:
    assert middle([None, None]) is None
    assert middle([None, 3.0, 1.0]) == 2.0
    assert ratio(1.0, 0.0) is None
    assert ratio(None, 2.0) is None
    [summary] = summarise([one_slice(p50_us=None, p99_us=None)], "none", "vllm-router")
    assert summary.p99_us is None


@given(
    st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.lists(st.integers(0, 10_000), min_size=2, max_size=50, unique=True)
)
def test_the_slope_of_a_line_is_its_own(base: float, rise: float, at: list[int]) -> None:
    assert slope([(x, base + rise * x) for x in at]) == pytest.approx(rise, rel=1e-6, abs=1e-3)


def test_no_slope_is_made_up() -> None:
    assert slope([]) == 0.0
    assert slope([(1.0, 5.0), (1.0, 9.0)]) == 0.0
