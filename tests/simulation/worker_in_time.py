"""A worker of the gateway in virtual time: the policy's own objects over simulated replicas that it shares with others.

What workers tell each other is there at once: attempts in flight, and until when a replica will be reading.
"""

from collections.abc import Callable, Sequence
from math import inf
from random import Random
from typing import Protocol

from secondsource.core.fleet import Lane
from secondsource.gateway.model_queue import CALM, FEW, NOT_LENT, SHORT
from secondsource.policy.admission import KEPT_COSTS, NOTHING, Admission, Refused, Request, Room
from secondsource.policy.batching import Batching
from secondsource.policy.fair_queue import State, Ticket
from secondsource.policy.first_token import FirstToken
from secondsource.policy.place_table import PlaceTable
from secondsource.policy.reading import Spared, better_soon, calm, may_read_s
from secondsource.policy.replica import PoolState, Replica
from secondsource.policy.routing import ENOUGH
from tests.fleets import pool
from tests.simulation.replica_in_time import BYTES_PER_TOKEN, Job, SimulatedReplica
from tests.tally import Tally

LEARNING = 0.02


class Asked(Protocol):
    """A request as a worker sees it."""

    number: int
    lane: str
    tenant: str
    prompt_tokens: int
    output_tokens: int
    ticket: Ticket | None


class Listener(Protocol):
    """Who is told what becomes of requests."""

    def got_in(self, asked: Asked) -> None:
        """Note that a request goes to a replica."""

    def began(self, asked: Asked) -> None:
        """Note its first token."""

    def answered(self, asked: Asked) -> float:
        """Note that it has its answer; returns how long after its first token."""

    def sent_away(self, asked: Asked, refused: Refused) -> None:
        """Note that it was sent away."""


class Board:
    """What each worker has written of one replica."""

    def __init__(self, workers: int) -> None:
        self.in_flight = [0] * workers
        self.until = [0.0] * workers


class _Reads:
    def __init__(self, numbers: list[float], worker: int) -> None:
        self._numbers, self._worker = numbers, worker

    def write(self, until: float) -> None:
        self._numbers[self._worker] = until

    def others(self) -> float:
        return max(until for worker, until in enumerate(self._numbers) if worker != self._worker)


class SimulatedWorker:
    """Worker `number` (from 0) of as many as the boards have room for."""

    def __init__(
        self,
        number: int,
        replicas: Sequence[tuple[SimulatedReplica, Board]],
        lanes: Sequence[Lane],
        table: PlaceTable,
        listener: Listener,
        chance: Random,
        clock: Callable[[], float],
        prompt_tokens_per_s: float,
        answer_s: float,
    ) -> None:
        self._workers = len(replicas[0][1].in_flight)
        self._machines = {self._standing(number, one, board, chance): one for one, board in replicas}
        self._lanes = lanes
        ttft_s = lanes[0].ttft_s or 0.0
        self._spared = Spared(CALM * ttft_s, SHORT * ttft_s)
        self._slots = int(sum(one.limit for one in self._machines))
        self.admission = Admission(lanes, {}, self._slots, 0.0, table=table)
        self._listener, self._chance, self._clock, self._answer_s = listener, chance, clock, answer_s
        self._first_token = FirstToken(prompt_tokens_per_s)
        self._batching = Batching()
        self._work_s = 1.0  # of a request, on average, as the router keeps it
        self._waiting: dict[Ticket, Asked] = {}

    def _standing(self, number: int, machine: SimulatedReplica, board: Board, chance: Random) -> Replica:
        (replica,) = PoolState(pool("a", max_concurrency=machine.slots), chance, number + 1, self._workers).replicas
        if self._workers > 1:
            replica.share(Tally(board.in_flight, number))
            replica.reading.share(_Reads(board.until, number))
        return replica

    def ask(self, asked: Asked) -> bool:
        """Let a request in, or wait, or send it away; returns whether it waits."""
        prefill_s = self._first_token.predicted_s(asked.prompt_tokens)
        work = prefill_s + self._answer_s
        self._work_s += LEARNING * (work - self._work_s)
        request = Request(asked.tenant, asked.lane, work, prefill_s, asked.number + 1)
        decision = self.admission.arrive(request, self.room(best=self._is_best(asked)), self._clock())
        if isinstance(decision, Refused):
            self._listener.sent_away(asked, decision)
            return False
        asked.ticket = decision
        waits = decision.state is not State.RUNNING
        if waits:
            self._waiting[decision] = asked
        else:
            self.start(asked)
        self._answer_evicted()
        return waits

    def leave(self, asked: Asked) -> bool:
        """Let a client hang up if it still waits; returns whether it did."""
        if asked.ticket is None or asked.ticket not in self._waiting:
            return False
        del self._waiting[asked.ticket]
        self.admission.forget(asked.ticket)
        return True

    def _is_best(self, asked: Asked) -> bool:
        return asked.lane == self._lanes[0].name

    def room(self, *, best: bool) -> Room:
        """Return the room for the best lane or for another, as `gateway.model_queue` does."""
        replicas, now = self._machines, self._clock()
        soon = best and better_soon(replicas, self._work_s, now)
        reads_s = inf if best else may_read_s(replicas, self._spared, now)
        idle = any(not one.in_flight and one.limit > ENOUGH / self._workers for one in replicas)
        return Room(self._free(best=best), self._slots, soon, reads_s, idle)

    def _free(self, *, best: bool) -> int:
        own = int(sum(one.limit - one.in_flight for one in self._machines))
        if self._workers == 1 or own > self._slots * FEW:
            return own
        lent = [one.lent() for one in self._machines]
        left, own = sum(one.left for one in lent), max(own - sum(one.taken for one in lent), 0)
        return own + left if best and left > NOT_LENT else own

    def start(self, asked: Asked) -> None:
        """Send a paid request where least is to be read, a free one to the least busy, as the router does."""
        self._listener.got_in(asked)
        began, best, size = self._clock(), self._is_best(asked), BYTES_PER_TOKEN * asked.prompt_tokens
        having_room = [one for one in self._machines if one.has_room(urgent=best)]
        if best:
            replica = min(having_room, key=lambda one: (one.reading.left_s(began), one.in_flight))
        else:
            near = calm(having_room, self._spared.calm_s, began)
            least = min(one.in_flight for one in near)
            replica = self._chance.choice([one for one in near if one.in_flight == least])
        machine = self._machines[replica]
        predicted = self._first_token.predicted_s(asked.prompt_tokens, 0, machine.tokens_ahead)
        replica.sent(size, began)
        mark = replica.clock.enter(int(began * 1e9))

        def first_token() -> None:
            replica.has_read(size, self._clock())
            self._listener.began(asked)
            self._first_token.observed(predicted, self._clock() - began)
            assert asked.ticket is not None
            self.admission.first_token(asked.ticket, self._clock())
            self.fill()

        def done() -> None:
            assert asked.ticket is not None
            share_s = replica.clock.leave(int(self._clock() * 1e9), mark) / 1e9
            replica.in_flight -= 1
            beside = (self._clock() - began) / max(share_s, 1e-9)
            self._batching.wrote(asked.output_tokens, self._listener.answered(asked), min(beside / machine.slots, 1.0))
            self.admission.forget(asked.ticket)
            self.fill()

        machine.start(Job(asked.prompt_tokens, asked.output_tokens, first_token, done))

    def fill(self) -> None:
        """Give free slots to those who wait."""
        best = self._lanes[0].name
        while True:
            room = self.room(best=self.admission.waiting_in(best) > 0)
            ticket = self.admission.take(room, self._clock())
            if ticket is None:
                break
            self.start(self._waiting.pop(ticket))
        self._answer_evicted()

    def _answer_evicted(self) -> None:
        for refused in self.admission.evicted:
            assert refused.ticket is not None
            self._listener.sent_away(self._waiting.pop(refused.ticket), refused)
        self.admission.evicted.clear()

    def tick(self) -> None:
        """Do what is done now and then."""
        least = (self._batching.most_kept(NOTHING) or 0.0) * self._slots
        enough = sum(max(one.limit - ENOUGH / self._workers, 0.0) for one in self._machines)
        self.admission.lets_idle(self._batching.most_kept(KEPT_COSTS), int(min(least, enough)))
        self.admission.tick(self._clock())
        self._answer_evicted()
        self.fill()
