"""A circuit opens on failures by weight, is probed after a back-off, tries one request and closes."""

from random import Random

import pytest

from secondsource.core.records import Outcome
from secondsource.policy.circuit import (
    FAILURE_WEIGHT,
    FIRST_BACKOFF_S,
    LONGEST_BACKOFF_S,
    LONGEST_THROTTLE_S,
    OPEN_AT,
    THROTTLE_WITHOUT_HINT_S,
    Circuit,
    CircuitState,
)


def make_circuit() -> Circuit:
    return Circuit(Random(1))


def opened(now: float = 0.0) -> Circuit:
    circuit = make_circuit()
    circuit.failed(Outcome.CONNECT_FAILED, now)
    assert circuit.state is CircuitState.OPEN
    return circuit


def half_opened() -> Circuit:
    circuit = opened()
    circuit.probed(alive=True, now=circuit.retry_at)
    assert circuit.state is CircuitState.HALF_OPEN
    return circuit


def test_a_new_circuit_lets_requests_through() -> None:
    circuit = make_circuit()
    assert circuit.state is CircuitState.CLOSED
    assert circuit.allows(0.0)
    assert circuit.ready_at(5.0) == 5.0


@pytest.mark.parametrize("outcome", sorted(FAILURE_WEIGHT))
def test_failures_open_it_once_their_weights_reach_the_threshold(outcome: Outcome) -> None:
    circuit = make_circuit()
    needed = -(-OPEN_AT // FAILURE_WEIGHT[outcome])
    for _ in range(int(needed) - 1):
        circuit.failed(outcome, 0.0)
        assert circuit.allows(0.0)
    circuit.failed(outcome, 0.0)
    assert circuit.state is CircuitState.OPEN
    assert not circuit.allows(1e9)  # only a probe lets it out


def test_successes_forgive_failures() -> None:
    circuit = make_circuit()
    for _ in range(50):
        circuit.failed(Outcome.CUT, 0.0)
        circuit.succeeded()
    assert circuit.state is CircuitState.CLOSED


def test_a_probe_opens_half_only_after_the_back_off() -> None:
    circuit = opened()
    assert FIRST_BACKOFF_S / 2 <= circuit.retry_at <= FIRST_BACKOFF_S
    circuit.probed(alive=True, now=circuit.retry_at - 0.001)
    assert circuit.state is CircuitState.OPEN
    circuit.probed(alive=True, now=circuit.retry_at)
    assert circuit.state is CircuitState.HALF_OPEN


def test_half_open_lets_one_trial_through_and_its_success_closes() -> None:
    circuit = half_opened()
    assert circuit.allows(1.0)
    trial = circuit.sent()
    assert not circuit.allows(1.0)
    circuit.succeeded(trial)
    assert circuit.state is CircuitState.CLOSED
    assert circuit.allows(1.0)


@pytest.mark.parametrize("outcome", sorted(FAILURE_WEIGHT))
def test_a_failed_trial_backs_off_twice_as_long(outcome: Outcome) -> None:
    circuit = half_opened()
    circuit.failed(outcome, 10.0, circuit.sent())
    assert circuit.state is CircuitState.OPEN
    assert FIRST_BACKOFF_S <= circuit.retry_at - 10.0 <= 2 * FIRST_BACKOFF_S


def test_the_back_off_doubles_to_a_bound_and_starts_again_after_a_success() -> None:
    circuit = opened()
    longest = 0.0
    for number in range(1, 12):
        now = circuit.retry_at
        circuit.probed(alive=False, now=now)
        waits = circuit.retry_at - now
        expected = min(FIRST_BACKOFF_S * 2**number, LONGEST_BACKOFF_S)
        assert expected / 2 <= waits <= expected
        longest = max(longest, waits)
    assert longest > LONGEST_BACKOFF_S / 2
    circuit.probed(alive=True, now=circuit.retry_at)
    circuit.succeeded(circuit.sent())
    circuit.failed(Outcome.CONNECT_FAILED, 1000.0)
    assert circuit.retry_at <= 1000.0 + FIRST_BACKOFF_S


def test_an_abandoned_trial_leaves_room_for_another() -> None:
    circuit = half_opened()
    circuit.abandoned(circuit.sent())
    assert circuit.state is CircuitState.HALF_OPEN
    assert circuit.allows(1.0)


def test_a_probe_that_is_not_answered_opens_a_closed_circuit() -> None:
    circuit = make_circuit()
    circuit.probed(alive=False, now=0.0)
    assert circuit.state is CircuitState.OPEN
    assert circuit.ready_at(0.0) == circuit.retry_at


def test_failures_that_come_late_do_not_put_off_the_probe() -> None:
    circuit = opened()
    retry_at = circuit.retry_at
    circuit.failed(Outcome.CONNECT_FAILED, 0.2)
    assert circuit.retry_at == retry_at


def test_a_retry_after_is_honoured_to_the_second() -> None:
    circuit = make_circuit()
    circuit.throttled(7.0, 100.0)
    assert not circuit.allows(106.999)
    assert circuit.ready_at(101.0) == 107.0
    assert circuit.allows(107.0)
    assert circuit.state is CircuitState.CLOSED


@pytest.mark.parametrize(("said", "kept"), [(1e9, LONGEST_THROTTLE_S), (float("inf"), LONGEST_THROTTLE_S), (-5.0, 0.0)])
def test_a_strange_retry_after_is_bounded(said: float, kept: float) -> None:
    circuit = make_circuit()
    circuit.throttled(said, 100.0)
    assert circuit.throttled_until == 100.0 + kept


def test_throttles_without_a_hint_grow_from_one_to_the_next() -> None:
    circuit = make_circuit()
    now = 0.0
    for number in range(8):
        circuit.throttled(None, now)
        wait = circuit.throttled_until - now
        expected = min(THROTTLE_WITHOUT_HINT_S * 2**number, LONGEST_BACKOFF_S)
        assert expected / 2 <= wait <= expected
        now = circuit.throttled_until
    circuit.succeeded()
    circuit.throttled(None, now)
    assert circuit.throttled_until - now <= THROTTLE_WITHOUT_HINT_S


def test_many_requests_throttled_at_once_are_one_sign_and_not_many() -> None:
    circuit = make_circuit()
    for _ in range(64):
        circuit.throttled(None, 0.0)
    assert circuit.throttled_until <= THROTTLE_WITHOUT_HINT_S


def test_a_throttled_trial_may_be_tried_again_afterwards() -> None:
    circuit = half_opened()
    circuit.throttled(1.0, 10.0, circuit.sent())
    assert not circuit.allows(10.5)
    assert circuit.allows(11.0)
    assert circuit.state is CircuitState.HALF_OPEN


def test_throttling_outlasts_the_back_off() -> None:
    circuit = opened()
    circuit.throttled(60.0, 0.0)
    assert circuit.ready_at(0.0) == 60.0


@pytest.mark.parametrize("state", ["open", "half open", "on trial"])
def test_what_was_sent_before_it_opened_decides_nothing(state: str) -> None:
    circuit = make_circuit()
    before = circuit.sent()
    circuit.failed(Outcome.CONNECT_FAILED, 0.0)
    if state != "open":
        circuit.probed(alive=True, now=circuit.retry_at)
    if state == "on trial":
        circuit.sent()
    was, allowed = circuit.state, circuit.allows(50.0)
    circuit.succeeded(before)
    circuit.failed(Outcome.CUT, 1.0, before)
    circuit.throttled(1.0, 1.0, before)
    circuit.abandoned(before)
    assert (circuit.state, circuit.allows(50.0)) == (was, allowed)


def test_a_trial_that_a_probe_overtook_decides_nothing_of_the_next() -> None:
    circuit = half_opened()
    first = circuit.sent()
    circuit.probed(alive=False, now=10.0)
    circuit.probed(alive=True, now=circuit.retry_at)
    second = circuit.sent()
    circuit.abandoned(first)
    circuit.succeeded(first)
    assert circuit.state is CircuitState.HALF_OPEN
    assert not circuit.allows(100.0)
    circuit.succeeded(second)
    assert circuit.allows(100.0)


def test_a_replica_that_says_that_it_serves_is_probed_at_once() -> None:
    circuit = opened()
    for _ in range(6):
        circuit.probed(alive=False, now=circuit.retry_at)
    assert circuit.retry_at > 10
    circuit.announced(10.0)
    circuit.probed(alive=True, now=10.0)
    assert circuit.state is CircuitState.HALF_OPEN
    circuit.failed(Outcome.CONNECT_FAILED, 20.0, circuit.sent())
    assert circuit.retry_at <= 20.0 + FIRST_BACKOFF_S
