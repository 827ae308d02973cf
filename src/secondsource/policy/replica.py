"""What is known of a replica, and of the pool whose replicas are alike. Owned by the router; `now` is the caller's."""

from math import inf
from random import Random
from typing import NamedTuple

from secondsource.core.fleet import Continuation, Pool
from secondsource.policy.accounting import ShareClock, SharedClock, Tally
from secondsource.policy.batching import Batching
from secondsource.policy.circuit import Circuit
from secondsource.policy.concurrency import ConcurrencyLimit, LoadReport
from secondsource.policy.reading import Reading, ReadingSpeed
from secondsource.policy.worker_share import part


class Lent(NamedTuple):
    """Slots that workers lend each other."""

    taken: int  # of this worker's own that it does not use, by others
    left: int  # of the others' slots that nobody uses


class PoolState:
    """A pool and what was found out about it while serving."""

    __slots__ = (
        "admitted",
        "batching",
        "continuation",
        "plugged",
        "pool",
        "prefill_repeats",
        "replicas",
        "speed",
        "virtual",
        "worker",
        "workers",
    )

    def __init__(self, pool: Pool, random: Random, worker: int = 1, workers: int = 1) -> None:
        self.pool = pool
        self.worker = worker  # which of them this is: 1, 2, ...
        self.workers = workers  # processes that ask its replicas, each with a part of their slots
        self.continuation = pool.continuation  # lowered when a replica refuses a prefilled turn
        self.admitted = not pool.require_parity  # raised by the verdict of `secondsource parity`
        self.plugged = True  # until the operator pulls its supplier's plug
        self.prefill_repeats: bool | None = None  # whether a continuation begins with the given prefix
        self.virtual = 0.0  # traffic so far over weight: the pool furthest behind is next
        self.speed = ReadingSpeed()
        self.batching = Batching()
        self.replicas = tuple(Replica(self, url, random) for url in pool.replicas)

    def reload(self, pool: Pool, random: Random) -> None:
        """Take the pool as the fleet file has it now; replicas that stay keep all that is known of them."""
        if pool.continuation is not self.pool.continuation:
            self.continuation = pool.continuation
        self.pool = pool
        self.admitted = not pool.require_parity
        known = {replica.url: replica for replica in self.replicas}
        self.replicas = tuple(known.get(url) or Replica(self, url, random) for url in pool.replicas)
        for replica in self.replicas:
            replica.reload(pool)

    @property
    def own_slots(self) -> int | None:
        """This worker's part of the slots of each replica; None where nothing bounds them."""
        most = self.pool.max_concurrency
        return None if most is None else part(most, self.worker, self.workers)

    def continuation_refused(self, *, exact: bool) -> None:
        """Remember that this pool refuses to continue by token ids (`exact`) or by text: it is asked more simply.

        Many streams cut at once are refused one after another: what they had all tried is given up once.
        """
        if self.continuation is Continuation.TOKENS:
            self.continuation = Continuation.PREFILL
        elif not exact:
            self.continuation = Continuation.NONE


class Replica:
    """One running copy of a model and what is known of it."""

    __slots__ = (
        "bears",
        "circuit",
        "clock",
        "context_tokens",
        "engine",
        "in_flight",
        "limit",
        "reading",
        "report",
        "state",
        "tally",
        "url",
    )

    def __init__(self, state: PoolState, url: str, random: Random) -> None:
        self.state = state
        self.url = url
        self.engine = ""  # as the replica names itself: "llamacpp", "vllm", "sglang"
        self.context_tokens = state.pool.context_tokens  # as the fleet file says, else as the replica does
        self.in_flight = 0
        self.reading = Reading(state.speed)  # of streams alone
        self.bears = ConcurrencyLimit(state.own_slots)
        self.limit = self.bears.limit
        self.report = LoadReport()  # as the replica last said of itself
        self.circuit = Circuit(random)
        self.clock = ShareClock()
        self.tally: Tally | None = None  # of the attempts that all workers have here; None where there is but one

    def share(self, tally: Tally) -> None:
        """Count its busy time, and its slots, as one of several workers that ask it."""
        self.clock, self.tally = SharedClock(tally), tally

    def reload(self, pool: Pool) -> None:
        """Take what the fleet file says now of a replica of this pool."""
        self.bears.reload(self.state.own_slots)
        self.limit = self.bears.limit
        if pool.context_tokens is not None:
            self.context_tokens = pool.context_tokens

    @property
    def pool(self) -> Pool:
        """The pool this replica belongs to."""
        return self.state.pool

    def has_room(self, *, urgent: bool = False) -> bool:
        """Return whether it bears one more attempt, as far as is known; for the best lane in others' slots, too."""
        if self.tally is None:
            return self.in_flight < self.limit
        return self._left(self.tally) > 0 and (self.in_flight < self.limit or (urgent and self.bears.uncut))

    def stands_idle(self) -> bool:
        """Return whether it has no attempt, from any worker."""
        return not self.in_flight and (self.tally is None or not self.tally.others())

    def lent(self) -> Lent:
        """Return what workers lend each other here; nothing where nothing bounds the attempts, or less is borne."""
        if self.tally is None or self.limit == inf:
            return Lent(0, 0)
        own, left = max(self.limit - self.in_flight, 0), max(self._left(self.tally), 0)
        return Lent(int(max(own - left, 0)), int(max(left - own, 0)) if self.bears.uncut else 0)

    def claim(self) -> bool:
        """Take a slot for an attempt that is about to be sent; False where there is none any more.

        First told, then looked at: of two workers that take the last slot in the same moment, no more than one has it.
        """
        if self.tally is None:
            return True
        self.tally.write(self.in_flight + 1)
        if self._left(self.tally) > 0:
            return True
        self.forgo()
        return False

    def forgo(self) -> None:
        """Give a slot back that was claimed, as nothing is sent."""
        if self.tally is not None:
            self.tally.write(self.in_flight)

    def _left(self, tally: Tally) -> float:
        most = self.pool.max_concurrency
        return inf if most is None else most - self.in_flight - tally.others()

    def sent(self, size: int, now: float) -> float:
        """Note an attempt, a stream's by its bytes and others as 0; return how many seconds others are read before."""
        behind_s = self.reading.left_s(now)
        self.in_flight += 1
        self.reading.sent(size, now)
        return behind_s

    def has_read(self, size: int, now: float) -> int:
        """Note that it has begun to answer; returns how many bytes it has yet to read: none."""
        self.reading.read(size, now)
        return 0

    def first_token(self, took_s: float, expected_s: float, now: float) -> None:
        """Note how long an attempt took to its first token, and how long one of its size does without any load."""
        self.bears.answered(took_s, expected_s, self.in_flight, now)
        self.limit = self.bears.limit

    def answered(self, tokens: int, seconds: float, beside: float) -> None:
        """Note how long an answer of so many tokens took after its first, and how many were in flight on average."""
        most = self.pool.max_concurrency  # the limit found out changes, and what was seen under another would not fit
        if most is not None:
            self.state.batching.wrote(tokens, seconds, min(beside / most, 1.0))

    def wrote(self, per_token_s: float, promised_s: float, now: float) -> None:
        """Note how long a token took on average, and how long its lane promises."""
        self.bears.wrote(per_token_s, promised_s, self.in_flight, now)
        self.limit = self.bears.limit

    def throttled(self, now: float) -> None:
        """Note a 429; the circuit has been told."""
        self.bears.throttled(self.in_flight + 1, now)
        self.limit = self.bears.limit

    def load_reported(self, report: LoadReport, now: float) -> None:
        """Note what the replica says of its own load."""
        self.report = report
        self.bears.reported(report, self.in_flight, now)
        self.limit = self.bears.limit
