"""When one replica may be asked: a circuit that opens, is probed, tries one request and closes.

Failures have weights, so that a refused connection opens the circuit at once and a single slow answer does
not. While open, the replica is probed after a back-off that doubles, with jitter; a probe that is answered
lets one request through, the trial, and its success closes the circuit. What was sent before the circuit opened and
ends afterwards decides nothing. Times are monotonic seconds given by the caller.
"""

from enum import StrEnum
from random import Random

from secondsource.core.records import Outcome

OPEN_AT = 3.0
FAILURE_WEIGHT = {
    Outcome.CONNECT_FAILED: 3.0,
    Outcome.FIRST_TOKEN_TIMEOUT: 2.0,
    Outcome.STALLED: 2.0,
    Outcome.RESET: 1.0,
    Outcome.SERVER_ERROR: 1.0,
    Outcome.CUT: 1.0,
    Outcome.GARBLED: 1.0,
    Outcome.ERROR_EVENT: 1.0,
}
FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 30.0
THROTTLE_WITHOUT_HINT_S = 0.5
LONGEST_THROTTLE_S = 300.0


class CircuitState(StrEnum):
    """Whether requests may flow to a replica."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Circuit:
    """The health of one replica as its answers and probes show it."""

    __slots__ = (
        "_backoff_s",
        "_random",
        "_score",
        "_throttles",
        "_trial",
        "_trials",
        "retry_at",
        "state",
        "throttled_until",
    )

    def __init__(self, random: Random) -> None:
        self.state = CircuitState.CLOSED
        self.retry_at = 0.0  # when an open circuit is to be probed next
        self.throttled_until = 0.0
        self._score = 0.0
        self._throttles = 0
        self._backoff_s = FIRST_BACKOFF_S
        self._trial = 0  # the number of the trial that is under way, or 0
        self._trials = 0
        self._random = random

    def allows(self, now: float) -> bool:
        """Return whether a request may be sent now."""
        if now < self.throttled_until:
            return False
        if self.state is CircuitState.CLOSED:
            return True
        return self.state is CircuitState.HALF_OPEN and not self._trial

    def ready_at(self, now: float) -> float:
        """Return the earliest time at which a request might be allowed, as far as is known."""
        if self.state is CircuitState.OPEN:
            return max(self.retry_at, self.throttled_until, now)
        return max(self.throttled_until, now)

    def sent(self) -> int:
        """Note that a request was sent; returns what to tell of its end: in a half-open circuit it is the one trial."""
        if self.state is not CircuitState.HALF_OPEN:
            return 0
        self._trials += 1
        self._trial = self._trials
        return self._trial

    def succeeded(self, trial: int = 0) -> None:
        """Note an answer that ended well, or an error that was the caller's own."""
        self._score *= 0.5
        self._throttles = 0
        if self._ends_trial(trial):
            self._close()

    def failed(self, outcome: Outcome, now: float, trial: int = 0) -> None:
        """Note a failed attempt; enough of them, or one failed trial, open the circuit."""
        self._score += FAILURE_WEIGHT.get(outcome, 0.0)
        if self._ends_trial(trial) or (self.state is CircuitState.CLOSED and self._score >= OPEN_AT):
            self._open(now)

    def throttled(self, retry_after: float | None, now: float, trial: int = 0) -> None:
        """Note a 429: keep away for as long as the replica asked, or for a growing while if it did not say."""
        self._ends_trial(trial)
        if retry_after is not None:
            wait = min(max(retry_after, 0.0), LONGEST_THROTTLE_S)
        elif now < self.throttled_until:
            return  # one of many that were under way: it says nothing that the first did not say
        else:
            wait = min(THROTTLE_WITHOUT_HINT_S * 2**self._throttles, LONGEST_BACKOFF_S) * self._jitter()
            self._throttles = min(self._throttles + 1, 10)
        self.throttled_until = max(self.throttled_until, now + wait)

    def abandoned(self, trial: int = 0) -> None:
        """Note an attempt that says nothing about the replica, such as one whose client left."""
        self._ends_trial(trial)

    def _ends_trial(self, trial: int) -> bool:
        if trial == 0 or trial != self._trial:
            return False
        self._trial = 0
        return True

    def probed(self, *, alive: bool, now: float) -> None:
        """Note a probe's answer: an open circuit that is answered lets one request through."""
        if alive:
            if self.state is CircuitState.OPEN and now >= self.retry_at:
                self.state = CircuitState.HALF_OPEN
        else:
            self._open(now)

    def announced(self, now: float) -> None:
        """Note that the replica says of itself that it serves: whoever waits with a probe need not wait longer."""
        self._backoff_s = FIRST_BACKOFF_S
        self.retry_at = min(self.retry_at, now)

    def _open(self, now: float) -> None:
        self.state = CircuitState.OPEN
        self.retry_at = now + self._backoff_s * self._jitter()
        self._backoff_s = min(self._backoff_s * 2, LONGEST_BACKOFF_S)
        self._trial = 0

    def _close(self) -> None:
        self.state = CircuitState.CLOSED
        self._score = 0.0
        self._backoff_s = FIRST_BACKOFF_S

    def _jitter(self) -> float:
        return 0.5 + self._random.random() / 2
