"""When a dead source is started again."""

from hypothesis import given
from hypothesis import strategies as st

from secondsource.embedded.restart_policy import RestartHistory, RestartPolicy, after_death

POLICY = RestartPolicy(base_s=1.0, cap_s=8.0, healthy_after_s=30.0)


def waits(served: list[float], chance: float) -> list[float]:
    history, waited = RestartHistory(), []
    for served_s in served:
        history, wait_s = after_death(POLICY, history, served_s, chance)
        waited.append(wait_s)
    return waited


def test_the_first_restart_is_at_once_and_later_ones_double_up_to_the_cap() -> None:
    assert waits([5.0] * 7, chance=1.0) == [0.0, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


def test_a_source_that_served_a_while_begins_anew() -> None:
    assert waits([5.0, 5.0, 5.0, 31.0, 5.0], chance=1.0) == [0.0, 1.0, 2.0, 0.0, 1.0]


def test_a_source_that_never_served_is_not_restarted_at_once() -> None:
    assert waits([0.0, 0.0], chance=0.0) == [0.5, 0.5]


@given(served=st.lists(st.floats(0, 100), max_size=200), chance=st.floats(0, 1, exclude_max=True))
def test_no_wait_is_longer_than_the_cap_or_negative(served: list[float], chance: float) -> None:
    assert all(0.0 <= wait_s <= POLICY.cap_s for wait_s in waits(served, chance))


@given(chance=st.floats(0, 1, exclude_max=True))
def test_jitter_spreads_a_wait_over_its_upper_half(chance: float) -> None:
    assert 1.0 <= waits([1.0, 1.0, 1.0], chance)[2] <= 2.0
