import pytest

from secondsource.benchmarking.drift import Drift, Sample, drift_per_hour, steady_load


def sample(at_s: float, rss_bytes: float) -> Sample:
    return Sample(at_s=at_s, rss_bytes=int(rss_bytes), streams=1, failed=0)


def drift(samples: list[Sample]) -> Drift:
    return Drift(gateway="g", version="1", minutes=60, samples=tuple(samples), bytes_per_hour=drift_per_hour(samples))


def test_what_fills_at_the_start_is_no_drift() -> None:
    warm = [sample(60.0 * minute, 100e6 if minute > 15 else 5e6 * minute) for minute in range(61)]
    assert drift_per_hour(warm) == 0.0
    assert drift(warm).flat


def test_a_leak_is_found_and_is_not_flat() -> None:
    leaking = [sample(60.0 * minute, 100e6 + 1e6 * minute) for minute in range(61)]
    assert drift_per_hour(leaking) == pytest.approx(60e6)
    assert not drift(leaking).flat


def test_memory_that_falls_is_flat() -> None:
    assert drift([sample(60.0 * minute, 100e6 - 1e5 * minute) for minute in range(61)]).flat


@pytest.mark.parametrize(("minutes", "part_s"), [(0.1, 5.0), (10, 20.0), (600, 60.0)])
def test_a_part_of_the_run_is_neither_too_short_nor_too_long(minutes: float, part_s: float) -> None:
    assert steady_load(minutes).window_s == part_s
