"""A bound on retries, so that an outage does not become a storm of our own making.

A request's first failover is free: it is what the second source is for, and it at most doubles the load. Every
further attempt is drawn from a budget that requests fill: a fifth of them, with a floor for quiet times
(the scheme of Finagle's RetryBudget). Times are monotonic seconds given by the caller.
"""

RATIO = 0.2
FLOOR_PER_S = 10.0
LONGEST_SAVING_S = 10.0


class RetryBudget:
    """Retries saved up by requests and spent by further attempts."""

    __slots__ = ("_balance", "_last")

    def __init__(self, now: float) -> None:
        self._last = now
        self._balance = FLOOR_PER_S * LONGEST_SAVING_S

    def request_started(self) -> None:
        """Save a fraction of a retry for each request."""
        self._balance = min(self._balance + RATIO, 1e4)

    def withdraw(self, now: float) -> bool:
        """Take one retry; false when there is none left."""
        floor = FLOOR_PER_S * LONGEST_SAVING_S
        if self._balance < floor:
            self._balance = min(floor, self._balance + (now - self._last) * FLOOR_PER_S)
        self._last = now
        if self._balance < 1.0:
            return False
        self._balance -= 1.0
        return True
