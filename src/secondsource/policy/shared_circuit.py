"""One circuit for a replica that several processes ask: each decides at once by what it sees, and tells the desk.

The desk keeps the circuit that counts. What one worker tells, it applies, and whoever's circuit differs from its own
is told. Of a half-open circuit one worker at a time may send the trial; the others take it for open.
"""

from collections.abc import Callable
from enum import StrEnum
from random import Random
from typing import NamedTuple

from secondsource.core.records import Outcome
from secondsource.policy.circuit import Circuit, CircuitState

TURN_S = 0.25  # how long a worker may leave a trial unsent before it is another's turn
FORGOTTEN = 0.05  # of a failure's weight: what is left of it matters to nobody


class Facts(NamedTuple):
    """How a circuit stands; times are monotonic seconds, which all processes of a machine share."""

    state: CircuitState = CircuitState.CLOSED
    retry_at: float = 0.0  # of an open one
    throttled_until: float = 0.0


class What(StrEnum):
    """What a worker saw of a replica."""

    SENT = "sent"  # the trial
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    THROTTLED = "throttled"
    ABANDONED = "abandoned"


class Seen(NamedTuple):
    """What a worker saw, and how its own circuit stands since."""

    what: What
    facts: Facts
    trial: bool = False
    outcome: Outcome = Outcome.OK
    retry_after: float | None = None


def facts_of(circuit: Circuit) -> Facts:
    """Return how a circuit stands."""
    retry_at = circuit.retry_at if circuit.state is CircuitState.OPEN else 0.0
    return Facts(circuit.state, retry_at, circuit.throttled_until)


class SharedCircuit(Circuit):
    """A worker's own circuit of a replica: it tells what the others should know, and takes what the desk says."""

    __slots__ = ("_tell",)

    def __init__(self, random: Random, tell: Callable[[Seen], None]) -> None:
        super().__init__(random)
        self._tell = tell

    def take(self, facts: Facts) -> None:
        """Stand as the desk says."""
        if facts.state is CircuitState.CLOSED:
            if self.state is not CircuitState.CLOSED:
                self._close()
        elif facts.state is not self.state:
            self.state = facts.state
            self._trial = 0
        self.retry_at = facts.retry_at
        self.throttled_until = facts.throttled_until

    def sent(self) -> int:
        """Note that a request was sent; a trial is told."""
        trial = super().sent()
        if trial:
            self._tell(Seen(What.SENT, facts_of(self), trial=True))
        return trial

    def succeeded(self, trial: int = 0) -> None:
        """Note an answer; it is told while failures are remembered."""
        matters = self._score > FORGOTTEN or self._throttles > 0 or self.state is not CircuitState.CLOSED
        ends = trial != 0 and trial == self._trial
        super().succeeded(trial)
        if matters:
            self._tell(Seen(What.SUCCEEDED, facts_of(self), trial=ends))

    def failed(self, outcome: Outcome, now: float, trial: int = 0) -> None:
        """Note a failed attempt, and tell it."""
        ends = trial != 0 and trial == self._trial
        super().failed(outcome, now, trial)
        self._tell(Seen(What.FAILED, facts_of(self), trial=ends, outcome=outcome))

    def throttled(self, retry_after: float | None, now: float, trial: int = 0) -> None:
        """Note a 429, and tell it unless it says nothing new."""
        ends = trial != 0 and trial == self._trial
        before = self.throttled_until
        super().throttled(retry_after, now, trial)
        if ends or self.throttled_until != before:
            self._tell(Seen(What.THROTTLED, facts_of(self), trial=ends, retry_after=self.throttled_until - now))

    def abandoned(self, trial: int = 0) -> None:
        """Note an attempt that says nothing about the replica; the end of a trial is told."""
        ends = trial != 0 and trial == self._trial
        super().abandoned(trial)
        if ends:
            self._tell(Seen(What.ABANDONED, facts_of(self), trial=True))


class CircuitDesk:
    """The circuit of one replica that counts, and how each worker's stands."""

    __slots__ = ("_known", "_trial", "_trials_worker", "_turn", "_turn_ends", "circuit")

    def __init__(self, circuit: Circuit) -> None:
        self.circuit = circuit
        self._known: dict[int, Facts] = {}
        self._turn: int | None = None  # the worker that may send the trial
        self._turn_ends = 0.0
        self._trial = 0
        self._trials_worker: int | None = None  # the worker that has sent it

    def joined(self, worker: int) -> None:
        """Note a new worker, which takes the replica for well."""
        self._known[worker] = Facts()

    def left(self, worker: int) -> None:
        """Note that a worker is gone, and its trial with it."""
        self._known.pop(worker, None)
        if self._turn == worker:
            self._turn = None
        if self._trials_worker == worker:
            self.circuit.abandoned(self._trial)
            self._trials_worker = None

    def heard(self, worker: int, seen: Seen, now: float) -> None:
        """Apply what a worker saw."""
        self._known[worker] = seen.facts
        if seen.what is What.SENT:
            if self._trials_worker is None:
                self._trials_worker, self._trial = worker, self.circuit.sent()
            return
        trial = 0
        if seen.trial and self._trials_worker == worker:
            trial, self._trials_worker, self._turn = self._trial, None, None
        if seen.what is What.SUCCEEDED:
            self.circuit.succeeded(trial)
        elif seen.what is What.FAILED:
            self.circuit.failed(seen.outcome, now, trial)
        elif seen.what is What.THROTTLED:
            self.circuit.throttled(seen.retry_after, now, trial)
        else:
            self.circuit.abandoned(trial)

    def news(self, now: float) -> list[tuple[int, Facts]]:
        """Return the workers whose circuit differs, each with how it should stand; they are taken to be told."""
        facts = facts_of(self.circuit)
        half_open = facts.state is CircuitState.HALF_OPEN
        if half_open:
            self._give_turn(now)
        told = []
        for worker, known in self._known.items():
            wanted = facts
            if half_open and worker not in (self._turn, self._trials_worker):
                wanted = Facts(CircuitState.OPEN, now + TURN_S, facts.throttled_until)
                if known.state is CircuitState.OPEN and known.throttled_until == facts.throttled_until:
                    continue
            if known != wanted:
                self._known[worker] = wanted
                told.append((worker, wanted))
        return told

    def _give_turn(self, now: float) -> None:
        if self._trials_worker is not None:
            return
        if self._turn is None or now >= self._turn_ends:
            workers = sorted(self._known)
            later = [worker for worker in workers if self._turn is not None and worker > self._turn]
            self._turn = next(iter(later or workers), None)
            self._turn_ends = now + TURN_S
