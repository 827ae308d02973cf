"""Retries are bounded by a floor for quiet times and a fraction of the requests."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondsource.policy.retry_budget import FLOOR_PER_S, LONGEST_SAVING_S, RATIO, RetryBudget

FLOOR = FLOOR_PER_S * LONGEST_SAVING_S


def drained(now: float = 0.0) -> RetryBudget:
    budget = RetryBudget(now)
    while budget.withdraw(now):
        pass
    return budget


def test_a_quiet_service_has_the_floor_and_no_more() -> None:
    budget = RetryBudget(0.0)
    taken = sum(budget.withdraw(0.0) for _ in range(1000))
    assert taken == FLOOR


def test_it_fills_with_time_up_to_the_floor() -> None:
    budget = drained()
    assert sum(budget.withdraw(1.0) for _ in range(1000)) == FLOOR_PER_S
    assert sum(budget.withdraw(1e6) for _ in range(1000)) == FLOOR


def test_requests_save_a_fraction_of_a_retry_each() -> None:
    budget = drained()
    for _ in range(100):
        budget.request_started()
    assert sum(budget.withdraw(0.0) for _ in range(1000)) == pytest.approx(100 * RATIO, abs=1)


@given(st.lists(st.one_of(st.just("request"), st.just("retry"), st.floats(0.0, 100.0)), max_size=400))
def test_retries_never_exceed_floor_time_and_ratio(events: list[str | float]) -> None:
    """Amplification is bounded over any stretch that begins with the budget's own."""
    budget, now, requests, retries = RetryBudget(0.0), 0.0, 0, 0
    for event in events:
        if event == "request":
            budget.request_started()
            requests += 1
        elif event == "retry":
            retries += budget.withdraw(now)
        else:
            now += float(event)
        assert retries <= FLOOR + FLOOR_PER_S * now + RATIO * requests + 1e-6
