"""Requests over replicas that fail and recover, in virtual time: the real policy, and invariants that stay on.

The world is one seed: when each replica is in which trouble, when requests come, how long they take. What drives the
policy here does what the gateway's attempt and prober do, without their sockets.
"""

import heapq
import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from secondsource.core.fleet import Continuation, Pool
from secondsource.core.records import Kind, Outcome
from secondsource.policy.accounting import ShareClock
from secondsource.policy.circuit import CircuitState
from secondsource.policy.failover import MOST_ATTEMPTS, Failover, Next, Verdict
from secondsource.policy.replica import Replica
from secondsource.policy.retry_budget import FLOOR_PER_S, LONGEST_SAVING_S, RATIO, RetryBudget
from secondsource.policy.routing import Router, Wait
from tests.fleets import MODEL, fleet, pool

SIGNS_OF_LIFE = frozenset({Outcome.OK, Outcome.CALLER_ERROR, Outcome.PREFILL_REFUSED})
SAYS_NOTHING = frozenset({Outcome.CLIENT_GONE})
PROBE_EVERY_S = 0.5
TICK_S = 0.05  # how soon the gateway looks at a deadline
POLL_S = 0.25
PATIENCE_S = 20.0

TROUBLES: dict[str, tuple[tuple[Outcome, float], ...]] = {  # what an attempt meets, and how long that takes
    "well": ((Outcome.OK, 1.0),),
    "down": ((Outcome.CONNECT_FAILED, 0.01),),
    "silent": ((Outcome.FIRST_TOKEN_TIMEOUT, 5.0),),
    "throttling": ((Outcome.THROTTLED, 0.05),),
    "failing": ((Outcome.SERVER_ERROR, 0.1), (Outcome.OK, 1.0), (Outcome.RESET, 0.2)),
    "cutting": ((Outcome.CUT, 0.7), (Outcome.STALLED, 3.0), (Outcome.OK, 1.0), (Outcome.ERROR_EVENT, 0.5)),
}
BREAKS_STREAM = frozenset({Outcome.CUT, Outcome.STALLED, Outcome.ERROR_EVENT})


@dataclass
class Request:
    """One request, and what became of it."""

    number: int
    failover: Failover
    began: float
    sent: bool = False
    waits_until: float = 0.0
    end: str = ""  # "ok", "passed on", "gave up", "client gone"
    asked: list[tuple[Replica, Kind, Outcome | None]] = field(default_factory=list)


class World:
    """One run."""

    def __init__(self, seed: int, requests: int) -> None:
        self.random = Random(seed)
        self.now = 0.0
        self.router = Router(fleet(*self._pools()), Random(seed + 1))
        self.budget = RetryBudget(0.0)
        self.requests: list[Request] = []
        self.trouble = dict.fromkeys(self.router.replicas, "well")
        self.busy_ns = dict.fromkeys(self.router.replicas, 0)
        self.shares_ns = dict.fromkeys(self.router.replicas, 0)
        self.since_ns = dict.fromkeys(self.router.replicas, 0)
        self.on_trial: dict[Replica, int] = {}
        self.retries = 0
        self.counts: Counter[str] = Counter()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._arrivals(requests)

    def _pools(self) -> tuple[Pool, ...]:
        return tuple(
            pool(
                name,
                self.random.randint(1, 3),
                order=self.random.choice([0, 0, 1]),
                weight=self.random.choice([1.0, 2.0, 5.0]),
                continuation=self.random.choice(list(Continuation)),
                max_concurrency=self.random.choice([None, 2, 8]),
            )
            for name in ("azure", "oci", "gcp")
        )

    def _arrivals(self, requests: int) -> None:
        at = 0.0
        for number in range(requests):
            at += self.random.expovariate(8.0)
            self.at(at, lambda number=number: self.arrive(number))  # type: ignore[misc]
        for replica in self.router.replicas:
            turn = self.random.uniform(0.0, at / 4)
            while turn < at:
                self.at(turn, lambda replica=replica: self.turn(replica))  # type: ignore[misc]
                turn += self.random.uniform(0.5, at / 4)
            self.at(at, lambda replica=replica: self.trouble.__setitem__(replica, "well"))  # type: ignore[misc]
            self.at(0.0, lambda replica=replica: self.probe(replica, at + 120.0))  # type: ignore[misc]

    def at(self, when: float, what: Callable[[], None]) -> None:
        """Let something happen then."""
        heapq.heappush(self._events, (when, next(self._order), what))

    def run(self) -> None:
        """Let everything happen."""
        while self._events:
            when, _, what = heapq.heappop(self._events)
            assert when >= self.now - 1e-9, "time went backwards"
            self.now = max(self.now, when)
            what()
            self.check()
        self.check_end()

    # -- what happens

    def turn(self, replica: Replica) -> None:
        """Put a replica into another trouble, or out of it."""
        self.trouble[replica] = self.random.choice([*TROUBLES, "well", "well"])

    def probe(self, replica: Replica, until: float) -> None:
        """Probe as the gateway does: an open circuit after its back-off, others now and then."""
        circuit = replica.circuit
        if circuit.state is not CircuitState.OPEN or self.now >= circuit.retry_at:
            circuit.probed(alive=self.trouble[replica] not in ("down", "silent"), now=self.now)
            if circuit.state is CircuitState.OPEN:
                self.on_trial.pop(replica, None)  # it goes on, and decides nothing any more
        if self.now < until:
            self.at(self.now + PROBE_EVERY_S, lambda: self.probe(replica, until))

    def arrive(self, number: int) -> None:
        """Start a request."""
        self.budget.request_started()
        request = Request(number, Failover(self.router, self.budget, MODEL), self.now)
        self.requests.append(request)
        self.go(request, request.failover.first(self.now))

    def go(self, request: Request, found: Next | Wait | None) -> None:
        """Attempt, wait or give up."""
        if isinstance(found, Next):
            request.waits_until = 0.0
            self.attempt(request, found)
        elif found is None:
            request.end = "gave up"
        else:
            request.waits_until = request.waits_until or self.now + PATIENCE_S
            if self.now >= request.waits_until or found.until > request.waits_until:
                request.end = "gave up"
            else:
                again = min(max(found.until, self.now + TICK_S), self.now + POLL_S)
                self.at(again, lambda: self.go(request, self.choose(request)))

    def choose(self, request: Request) -> Next | Wait | None:
        """Ask policy for the next attempt."""
        if not request.asked:
            return request.failover.first(self.now)
        return request.failover.choose(self.now, sent=request.sent, continuable=request.number % 3 != 0)

    def attempt(self, request: Request, found: Next) -> None:
        """Send to a replica, and let it meet its fate."""
        replica = found.replica
        self.check_choice(request, found)
        replica.in_flight += 1
        trial = replica.circuit.sent()
        if trial:
            assert replica not in self.on_trial, "a second trial while one is under way"
            self.on_trial[replica] = trial
        mark = self.share(replica, replica.clock.enter)
        request.asked.append((replica, found.kind, None))
        outcome, seconds = self.random.choice(TROUBLES[self.trouble[replica]])
        if self.random.random() < 0.02:
            outcome = self.random.choice([Outcome.CLIENT_GONE, Outcome.CALLER_ERROR])
        seconds *= self.random.uniform(0.5, 1.5)
        self.at(self.now + seconds, lambda: self.settle(request, replica, outcome, mark, trial))

    def share(self, replica: Replica, call: Callable[[int], int]) -> int:
        """Call the replica's clock, and keep the busy time beside it."""
        now_ns = round(self.now * 1e9)
        entering = call == replica.clock.enter
        active = replica.in_flight - entering
        if active > 0:
            self.busy_ns[replica] += now_ns - self.since_ns[replica]
        self.since_ns[replica] = now_ns
        return call(now_ns)

    def settle(self, request: Request, replica: Replica, outcome: Outcome, mark: int, trial: int) -> None:
        """End an attempt as the gateway does."""
        if trial and self.on_trial.get(replica) == trial:
            del self.on_trial[replica]
        clock: ShareClock = replica.clock
        self.shares_ns[replica] += self.share(replica, lambda now_ns: clock.leave(now_ns, mark))
        replica.in_flight -= 1
        circuit = replica.circuit
        if outcome in SIGNS_OF_LIFE:
            circuit.succeeded(trial)
        elif outcome is Outcome.THROTTLED:
            circuit.throttled(self.random.choice([None, 0.5, 3.0]), self.now, trial)
        elif outcome in SAYS_NOTHING:
            circuit.abandoned(trial)
        else:
            circuit.failed(outcome, self.now, trial)
        self.counts[outcome] += 1
        request.asked[-1] = (*request.asked[-1][:2], outcome)
        request.sent = request.sent or outcome in BREAKS_STREAM
        if outcome is Outcome.OK:
            request.end = "ok"
        elif outcome is Outcome.CLIENT_GONE:
            request.end = "client gone"
        else:
            self.fail(request, replica, outcome)

    def fail(self, request: Request, replica: Replica, outcome: Outcome) -> None:
        """Do what policy says of a failure."""
        verdict = request.failover.after(replica, outcome, self.now)
        if verdict is Verdict.AGAIN:
            self.go(request, self.choose(request))
        else:
            request.end = "passed on" if verdict is Verdict.PASS_ON else "gave up"

    # -- what must hold

    def check_choice(self, request: Request, found: Next) -> None:
        """A replica that may not be asked is not."""
        replica, circuit = found.replica, found.replica.circuit
        assert circuit.state is not CircuitState.OPEN, "sent to an open circuit"
        assert self.now >= circuit.throttled_until, "sent to a replica that asked to be left alone"
        limit = replica.pool.max_concurrency
        assert limit is None or replica.in_flight < limit, "sent over max_concurrency"
        silent = {Outcome.FIRST_TOKEN_TIMEOUT, Outcome.STALLED, Outcome.GARBLED}
        before = [outcome for other, _, outcome in request.asked if other is replica]
        assert not silent & set(before), "asked a silent replica the same thing again"
        assert len([one for one in before if one is not Outcome.CONNECT_FAILED]) < 2, "asked a third time"
        assert len(request.asked) < MOST_ATTEMPTS, "too many attempts"
        if len(request.asked) >= 2:
            self.retries += 1
            allowed = FLOOR_PER_S * (LONGEST_SAVING_S + self.now) + RATIO * len(self.requests)
            assert self.retries <= allowed, "retries beyond the budget"

    def check(self) -> None:
        """What holds at any moment."""
        for replica in self.router.replicas:
            assert replica.in_flight >= 0
            assert self.shares_ns[replica] <= self.busy_ns[replica], "shares of more than the busy time"

    def check_end(self) -> None:
        """What holds when all is over: every request has ended, and every replica is well again."""
        assert all(request.end for request in self.requests), "a request never ended"
        for replica in self.router.replicas:
            assert replica.in_flight == 0
            assert replica.circuit.state is not CircuitState.OPEN, "a replica that is well again is still avoided"
            lost = self.busy_ns[replica] - self.shares_ns[replica]
            assert lost <= 4 * sum(self.counts.values()), "busy time that nobody bears"
            assert replica.circuit.allows(self.now + 301.0), "a replica that is well again is never asked"
