"""What to do when an attempt has failed: pass it on, ask elsewhere, or give up. One `Failover` a request.

attempt fails ──► caller's own error? ──► PASS_ON
              ──► nothing left to try, or no budget? ──► GIVE_UP
              ──► AGAIN: `choose` names the next replica and how the answer goes on there
"""

from enum import Enum, auto
from typing import NamedTuple

from secondsource.core.fleet import Continuation
from secondsource.core.records import Kind, Outcome
from secondsource.policy.replica import Replica
from secondsource.policy.retry_budget import RetryBudget
from secondsource.policy.routing import ANY, Router, Wait, Wanted

MOST_FRUITLESS = 8  # attempts in a row that brought the client nothing
MOST_ATTEMPTS = 24
REASK_WITHIN_S = 0.4  # after a first failure; doubled after each further one in vain
POISON = 2  # connections reset by one request

# After these, the same replica may be asked the same thing again once its circuit allows it. A replica that was
# silent, stalled or garbled is not: it had its chance at this request, and each try costs a whole time-out.
MAY_ASK_AGAIN = frozenset(
    {
        Outcome.CONNECT_FAILED,
        Outcome.RESET,
        Outcome.THROTTLED,
        Outcome.SERVER_ERROR,
        Outcome.ERROR_EVENT,
        Outcome.CUT,
        Outcome.UNPLUGGED,
    }
)
PASSED_ON = frozenset({Outcome.CALLER_ERROR})
FINAL = frozenset({Outcome.DEPARTED, Outcome.TOTAL_TIMEOUT, Outcome.CLIENT_GONE, Outcome.INTERRUPTED})


class Verdict(Enum):
    """What to do after a failed attempt."""

    PASS_ON = auto()
    AGAIN = auto()
    GIVE_UP = auto()


class Next(NamedTuple):
    """The next attempt: where, and why it is made."""

    replica: Replica
    kind: Kind


class Failover:
    """The memory of one request: where it has been, and what it may still try."""

    __slots__ = (
        "_avoid",
        "_budget",
        "_fruitless",
        "_hang_ups",
        "_model",
        "_more_context_than",
        "_router",
        "_spent",
        "_suppliers",
        "_tried",
        "attempts",
        "last_outcome",
        "need",
    )

    def __init__(self, router: Router, budget: RetryBudget, model: str) -> None:
        self._router = router
        self._budget = budget
        self._model = model
        self.need = ANY
        self.attempts = 0
        self._fruitless = 0
        self._hang_ups = 0
        self.last_outcome: Outcome | None = None
        self._avoid: set[Replica] = set()  # never again for this request
        self._tried: dict[Replica, float] = {}  # not before this time
        self._spent: set[Replica] = set()  # answered in vain since the client last got something
        self._suppliers: set[str] = set()
        self._more_context_than: int | None = None

    def first(self, now: float) -> Next | Wait | None:
        """Return where to send a new request."""
        found = self._router.choose(Wanted(self._model, need=self.need), now)
        return self._sent(found, Kind.FIRST) if isinstance(found, Replica) else found

    def after(self, replica: Replica, outcome: Outcome, now: float, *, progressed: bool = False) -> Verdict:
        """Return what to do now that an attempt at `replica` has failed.

        `progressed`: it brought the client a part of the answer, so that it does not count against those to come:
        a long answer may be cut as often as its replicas die.
        """
        self.last_outcome = outcome
        if progressed:
            self._start_over()
        if outcome in PASSED_ON:
            return Verdict.PASS_ON
        if outcome in FINAL or self._fruitless >= MOST_FRUITLESS or self.attempts >= MOST_ATTEMPTS:
            return Verdict.GIVE_UP
        if outcome is Outcome.CONTEXT_OVERFLOW:
            limit = replica.pool.context_tokens
            self._avoid.update(other for other in self._router.replicas if other.pool.name == replica.pool.name)
            self._more_context_than = max(limit or 0, self._more_context_than or 0)
            # An unknown limit has no larger one; the replica's own answer is the best there is.
            return Verdict.AGAIN if limit is not None and self._larger_exists() else Verdict.PASS_ON
        if outcome is Outcome.PREFILL_REFUSED:
            return Verdict.AGAIN
        if outcome is Outcome.NOT_OFFERED:
            self._avoid.update(other for other in self._router.replicas if other.pool.name == replica.pool.name)
            # Where nobody else is to be had, the replica's own words say best what is not offered.
            return Verdict.AGAIN if self.has_other(replica, now) else Verdict.PASS_ON
        if outcome in MAY_ASK_AGAIN and (progressed or self._may_reask(replica, outcome)):
            self._tried[replica] = now + self._wait_s()
        else:
            self._avoid.add(replica)
        self._suppliers.add(replica.pool.supplier)
        if self.attempts == 1 or self._budget.withdraw(now):
            return Verdict.AGAIN
        return Verdict.GIVE_UP

    def _wait_s(self) -> float:
        """Draw how long to leave a replica alone, anywhere up to a bound that doubles ("full jitter").

        Requests that were cut at one moment then do not come back at one moment.
        """
        return self._router.random.uniform(0.0, REASK_WITHIN_S * 2.0 ** max(self._fruitless - 1, 0))

    def _start_over(self) -> None:
        """Forgive who brought nothing before: others are still preferred, and who was silent stays avoided."""
        self._fruitless = 0
        self._hang_ups = 0
        self._spent.clear()

    def _may_reask(self, replica: Replica, outcome: Outcome) -> bool:
        """A replica that is down was not bothered. One that answered in vain is asked twice at the most, and a
        request that made two of them hang up is taken for poison.
        """
        if outcome is Outcome.CONNECT_FAILED:
            return True
        self._hang_ups += outcome is Outcome.RESET
        first = replica not in self._spent
        self._spent.add(replica)
        return first and self._hang_ups < POISON

    def choose(self, now: float, *, sent: bool, continuable: bool) -> Next | Wait | None:
        """Return the next attempt of a request that failed before.

        `sent`: something has reached the client. `continuable`: the request allows its answer to be continued.
        """
        wishes = [True, False] if sent and continuable else [False]
        found: Replica | Wait | None = None
        for must_continue in wishes:
            found = self._best(now, must_continue=must_continue)
            if isinstance(found, Replica):
                break
        if not isinstance(found, Replica):
            return found
        if not sent:
            return self._sent(found, Kind.RETRY)
        can = continuable and found.state.continuation is not Continuation.NONE
        return self._sent(found, Kind.CONTINUATION if can else Kind.REMAKE)

    def has_other(self, replica: Replica, now: float) -> bool:
        """Return whether a replica other than this one, and not tried before, could take the request now."""
        wanted = Wanted(self._model, self._avoid | self._tried.keys() | {replica}, (), self._more_context_than)
        return self._router.has(wanted, now)

    def soonest(self, now: float) -> float:
        """Return when a replica of the model might be had, for a client that is told to come back."""
        return self._router.soonest(self._model, now)

    def _best(self, now: float, *, must_continue: bool) -> Replica | Wait | None:
        """Prefer another supplier, then another replica, then one that may be asked again."""
        untried = self._avoid | self._tried.keys()
        waits: list[float] = []
        for avoid, suppliers in ((untried, self._suppliers), (untried, ()), (self._avoid_until(now), ())):
            wanted = Wanted(self._model, avoid, suppliers, self._more_context_than, must_continue, self.need)
            found = self._router.choose(wanted, now)
            if isinstance(found, Replica):
                return found
            if isinstance(found, Wait):
                waits.append(found.until)
        waits += [at for replica, at in self._tried.items() if at > now and replica not in self._avoid]
        return Wait(min(waits)) if waits else None

    def _avoid_until(self, now: float) -> set[Replica]:
        return self._avoid | {replica for replica, at in self._tried.items() if at > now}

    def _larger_exists(self) -> bool:
        return self._router.has_larger(self._model, self._more_context_than or 0)

    def _sent(self, replica: Replica, kind: Kind) -> Next:
        self.attempts += 1
        self._fruitless += 1
        return Next(replica, kind)
