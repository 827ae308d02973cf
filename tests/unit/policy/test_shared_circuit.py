"""One circuit over several workers: opened by one and open to all, one trial, closed for all."""

from random import Random

import pytest

from secondsource.core.records import Outcome
from secondsource.policy.circuit import Circuit, CircuitState
from secondsource.policy.shared_circuit import TURN_S, CircuitDesk, Seen, SharedCircuit

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN


class Crew:
    """A desk and its workers; `settle` carries all that was said, both ways."""

    def __init__(self, workers: int = 3) -> None:
        self.desk = CircuitDesk(Circuit(Random(1)))
        self.said: list[tuple[int, Seen]] = []
        self.circuits = {number: self._circuit(number) for number in range(1, workers + 1)}
        for number in self.circuits:
            self.desk.joined(number)

    def _circuit(self, number: int) -> SharedCircuit:
        return SharedCircuit(Random(number), lambda seen: self.said.append((number, seen)))

    def settle(self, now: float) -> int:
        """Return how many messages that took."""
        messages = 0
        while self.said:
            number, seen = self.said.pop(0)
            self.desk.heard(number, seen, now)
            messages += 1
        for number, facts in self.desk.news(now):
            self.circuits[number].take(facts)
            messages += 1
        return messages

    def states(self) -> list[CircuitState]:
        return [circuit.state for circuit in self.circuits.values()]

    def half_open(self, now: float) -> int:
        """Open the circuit, have a probe answered, and return whose turn it is."""
        self.circuits[1].failed(Outcome.CONNECT_FAILED, now)
        self.settle(now)
        self.desk.circuit.probed(alive=True, now=now + 1.0)
        self.settle(now + 1.0)
        (turn,) = (number for number, circuit in self.circuits.items() if circuit.state is HALF_OPEN)
        return turn


def test_what_one_worker_opens_is_open_to_all() -> None:
    crew = Crew()
    crew.circuits[2].failed(Outcome.CONNECT_FAILED, 10.0)
    assert crew.states() == [CLOSED, OPEN, CLOSED]
    crew.settle(10.0)
    assert crew.states() == [OPEN] * 3
    assert len({circuit.retry_at for circuit in crew.circuits.values()} | {crew.desk.circuit.retry_at}) == 1


def test_failures_of_several_workers_add_up() -> None:
    crew = Crew()
    for number in (1, 2, 3):
        crew.circuits[number].failed(Outcome.RESET, 10.0)
    crew.settle(10.0)
    assert crew.states() == [OPEN] * 3


def test_one_worker_at_a_time_has_the_trial_and_its_success_closes_for_all() -> None:
    crew = Crew()
    turn = crew.half_open(10.0)
    assert sorted(crew.states()) == sorted([HALF_OPEN, OPEN, OPEN])
    trial = crew.circuits[turn].sent()
    crew.settle(20.0)
    assert crew.states().count(HALF_OPEN) == 1, "a trial under way is not passed on"
    assert not any(circuit.allows(30.0) for circuit in crew.circuits.values())
    crew.circuits[turn].succeeded(trial)
    crew.settle(30.0)
    assert crew.states() == [CLOSED] * 3
    assert crew.desk.circuit.state is CLOSED


def test_a_failed_trial_opens_again_for_all() -> None:
    crew = Crew()
    turn = crew.half_open(10.0)
    crew.circuits[turn].failed(Outcome.CUT, 12.0, crew.circuits[turn].sent())
    crew.settle(12.0)
    assert crew.states() == [OPEN] * 3
    assert crew.desk.circuit.state is OPEN


def test_a_turn_that_is_not_used_goes_round() -> None:
    crew = Crew()
    now, turns = 12.0, [crew.half_open(10.0)]
    for _ in range(3):
        now += TURN_S * 1.1
        crew.settle(now)
        (turn,) = (number for number, circuit in crew.circuits.items() if circuit.state is HALF_OPEN)
        turns.append(turn)
    assert set(turns[:3]) == {1, 2, 3}
    assert turns[3] == turns[0]


@pytest.mark.parametrize("sent", [False, True])
def test_a_worker_that_dies_takes_no_trial_with_it(sent: bool) -> None:
    crew = Crew()
    turn = crew.half_open(10.0)
    if sent:
        crew.circuits[turn].sent()
        crew.settle(11.0)
    crew.desk.left(turn)
    del crew.circuits[turn]
    crew.settle(12.0)
    assert crew.states().count(HALF_OPEN) == 1


def test_a_new_worker_learns_what_is_open() -> None:
    crew = Crew()
    crew.circuits[1].failed(Outcome.CONNECT_FAILED, 10.0)
    crew.settle(10.0)
    crew.circuits[4] = crew._circuit(4)
    crew.desk.joined(4)
    crew.settle(10.1)
    assert crew.circuits[4].state is OPEN


def test_a_throttled_replica_is_left_alone_by_all_and_said_once() -> None:
    crew = Crew()
    crew.circuits[1].throttled(5.0, 10.0)
    crew.circuits[1].throttled(5.0, 10.0)
    assert len(crew.said) == 1
    crew.settle(10.0)
    assert [circuit.throttled_until for circuit in crew.circuits.values()] == [15.0] * 3


def test_a_well_replica_costs_no_message() -> None:
    crew = Crew()
    for _ in range(100):
        for circuit in crew.circuits.values():
            circuit.succeeded(circuit.sent())
    assert crew.settle(10.0) == 0


def test_workers_and_desk_agree_whatever_they_disagreed_about() -> None:
    crew = Crew(2)
    turn = crew.half_open(10.0)
    other = 3 - turn
    trial = crew.circuits[turn].sent()
    crew.circuits[turn].succeeded(trial)
    crew.circuits[other].failed(Outcome.RESET, 12.0)  # of an attempt from before: it decides nothing
    crew.settle(12.0)
    crew.settle(12.1)
    assert crew.states() == [crew.desk.circuit.state] * 2
