"""The adaptive limit: finds what a replica can bear, gives way at signs of overload, and keeps its bounds."""

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from secondsource.policy.concurrency import (
    CALM_S,
    SETTLES_S,
    ConcurrencyLimit,
    LoadReport,
    read_orca,
    read_vllm_metrics,
)

VLLM = """# HELP vllm:num_requests_waiting Number of requests waiting
vllm:num_requests_waiting{engine="0",model_name="m"} 3.0
vllm:num_requests_waiting{engine="1",model_name="m"} 1.0
vllm:num_requests_waiting_by_reason{reason="capacity"} 9.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.5
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.75
"""


def settled(bears: int, limit: ConcurrencyLimit, begin: float) -> list[int]:
    """Return the limits over a while of full use of a replica that slows down beyond what it bears."""
    seen = []
    for step in range(8000):
        in_flight = int(limit.limit)
        limit.answered(max(1.0, (in_flight / bears) ** 3), 1.0, in_flight, begin + step * 0.05)
        seen.append(int(limit.limit))
    return seen[4000:]


def test_the_limit_follows_what_a_replica_bears() -> None:
    limit = ConcurrencyLimit(200)
    limit._limit = 10.0
    many = settled(40, limit, 0.0)
    assert 25 <= sum(many) / len(many) <= 60
    few = settled(15, limit, 1000.0)
    assert sum(few) / len(few) < sum(many) / len(many)


def test_many_429s_at_once_cut_once() -> None:
    limit = ConcurrencyLimit(100)
    for step in range(50):
        limit.throttled(100, step * 0.01)
    assert limit.limit == 70
    limit.throttled(70, 0.49 + SETTLES_S)
    assert limit.limit == 48 or limit.limit == 49  # noqa: PLR1714 -- either side of a rounding


def test_a_cut_that_nothing_confirms_is_given_back_though_it_is_not_made_use_of() -> None:
    limit = ConcurrencyLimit(8)
    limit.answered(1.0, 1.0, 2, 0.0)
    limit.throttled(8, 1.0)
    limit.answered(1.0, 1.0, 2, 1.0 + CALM_S - 0.1)
    assert limit.limit == 5
    for step in range(20):
        limit.answered(1.0, 1.0, 2, 1.0 + CALM_S + step)
    assert limit.limit == 8
    for step in range(100):
        limit.answered(1.0, 1.0, 2, 40.0 + step)
    assert limit.limit == 8


def test_what_waits_at_the_replica_waits_here_instead() -> None:
    limit = ConcurrencyLimit(64)
    limit.reported(LoadReport(waiting=10), 40, 0.0)
    assert limit.limit == 30
    limit.reported(LoadReport(cache_used=0.97), 30, 1.0)
    assert limit.limit == 21


signs = st.lists(
    st.tuples(st.sampled_from(["answer", "429", "report"]), st.floats(0.0, 1e4), st.integers(0, 500)), max_size=200
)


@given(signs, st.none() | st.integers(1, 300))
def test_bounds_are_kept_whatever_comes(script: list[tuple[str, float, int]], most: int | None) -> None:
    limit = ConcurrencyLimit(most)
    for step, (what, number, in_flight) in enumerate(script):
        if what == "answer":
            limit.answered(number, 1.0, in_flight, float(step))
        elif what == "429":
            limit.throttled(in_flight, float(step))
        else:
            limit.reported(LoadReport(in_flight, number / 1e4, number), in_flight, float(step))
        assert 1 <= limit.limit <= (most or inf)


def test_without_a_bound_there_is_none_before_the_first_sign_of_overload() -> None:
    limit = ConcurrencyLimit(None)
    limit.answered(1.0, 1.0, 500, 0.0)
    assert limit.limit == inf
    limit.throttled(300, 1.0)
    assert limit.limit == 210


def test_what_is_slow_by_a_few_milliseconds_is_no_overload() -> None:
    limit = ConcurrencyLimit(10)
    for step in range(50):
        limit.answered(0.001 if step < 10 else 0.1, 0.001, 10, float(step))
    assert limit.limit == 10


def test_a_replica_that_writes_more_slowly_than_promised_gets_fewer() -> None:
    limit = ConcurrencyLimit(10)
    limit.wrote(0.3, 0.1, 10, 0.0)
    assert limit.limit == 10, "one slow answer is none"
    for step in range(10):
        limit.wrote(0.3, 0.1, 10, float(step))
    assert limit.limit < 10


def test_another_bound_is_taken_and_a_limit_below_it_kept() -> None:
    limit = ConcurrencyLimit(100)
    limit.reload(50)
    assert limit.limit == 50
    limit.reload(80)
    assert limit.limit == 80
    limit.throttled(80, 0.0)
    limit.reload(None)
    assert limit.limit == 56


def test_reports_are_read_as_engines_write_them() -> None:
    assert read_vllm_metrics(VLLM) == LoadReport(waiting=4, cache_used=0.75)
    assert read_vllm_metrics("") == LoadReport()
    header = (
        "TEXT application_utilization=1.2, named_metrics.kv_cache_usage_perc=0.4, named_metrics.num_requests_waiting=2"
    )
    assert read_orca(header) == LoadReport(2, 0.4, 1.2)
    assert read_orca('JSON {"cpu": 1}') == LoadReport()


def test_a_report_that_is_none_is_none() -> None:
    for wrong in ("nan", "inf", "-1", "", "1e400", "x"):
        assert read_vllm_metrics(f"vllm:num_requests_waiting {wrong}\n") == LoadReport()
        assert read_orca(f"TEXT named_metrics.num_requests_waiting={wrong}") == LoadReport()
