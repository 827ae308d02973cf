"""The adaptive limit: finds what a replica can bear, gives way at signs of overload, and keeps its bounds."""

from hypothesis import given
from hypothesis import strategies as st

from secondsource.policy.concurrency import SETTLES_S, ConcurrencyLimit, LoadReport, read_orca, read_vllm_metrics

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
        in_flight = limit.limit
        limit.answered(max(1.0, (in_flight / bears) ** 3), 1.0, in_flight, begin + step * 0.05)
        seen.append(limit.limit)
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
        limit.throttled(step * 0.01)
    assert limit.limit == 70
    limit.throttled(0.49 + SETTLES_S)
    assert limit.limit == 48 or limit.limit == 49  # noqa: PLR1714 -- either side of a rounding


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
            limit.throttled(float(step))
        else:
            limit.reported(LoadReport(in_flight, number / 1e4, number), in_flight, float(step))
        assert 1 <= limit.limit <= (most or 10**6)


def test_reports_are_read_as_engines_write_them() -> None:
    assert read_vllm_metrics(VLLM) == LoadReport(waiting=4, cache_used=0.75)
    assert read_vllm_metrics("") == LoadReport()
    header = (
        "TEXT application_utilization=1.2, named_metrics.kv_cache_usage_perc=0.4, named_metrics.num_requests_waiting=2"
    )
    assert read_orca(header) == LoadReport(2, 0.4, 1.2)
    assert read_orca('JSON {"cpu": 1}') == LoadReport()
