"""One model's queue: what its `Admission` decides is done here, to the exchanges that arrive, wait and end."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b

import msgspec

from secondsource.core.fleet import Lane
from secondsource.gateway.exchange import Exchange
from secondsource.policy.admission import KEPT_COSTS, MOST_EVER, NOTHING, Admission, Refused, Request, Room
from secondsource.policy.expectation import OVERHEAD_S, Expectation
from secondsource.policy.fair_queue import State, Ticket
from secondsource.policy.lanes import Lanes
from secondsource.policy.place_table import PlaceTable
from secondsource.policy.reading import Spared
from secondsource.policy.routing import Router
from secondsource.policy.views import LaneView

CALM = 0.05  # of the best lane's ttft_s: worse lanes leave it a replica that will not be reading for longer
SHORT = 0.08  # of it: a prompt that is read no longer is sent to a replica that stands idle though others are reading
FEW = 0.25  # of all slots: with fewer free, somebody may be sent away, and known when coming back
NOT_LENT = 1  # slot of the other workers': one that was just left is about to be taken by its own


class ModelQueue:
    """Who runs, who waits and who is sent away of one model's requests."""

    def __init__(
        self,
        model: str,
        router: Router,
        expectation: Expectation,
        start: Callable[[Exchange], None],
        send_away: Callable[[Exchange, Refused, bool], None],  # and whether no replica is to be had at all
        places: PlaceTable,
    ) -> None:
        self.expectation = expectation
        self._model = model
        self._router = router
        self._start = start
        self._send_away = send_away
        self._places = places
        self._slots = self._in_use = self._most_kept = 0
        self._filling = False
        self._waiting: dict[Ticket, Exchange] = {}
        self._lanes: tuple[Lane, ...] = ()
        self._admission: Admission
        self._patience_s: dict[str, float] = {}
        self.spared = Spared()

    def reload(self, lanes: Sequence[Lane], weights: Mapping[str, float], now: float) -> None:
        """Take the lanes and the tenants' weights as they are now; each lane has a `ttft_s`. Who waits asks again."""
        self._lanes = Lanes(lanes).ordered
        ttft_s = self._lanes[0].ttft_s or 0.0
        self.spared = Spared(CALM * ttft_s, SHORT * ttft_s) if len(lanes) > 1 else Spared()
        self._patience_s = {lane.name: lane.ttft_s or 0.0 for lane in lanes}
        self._slots = self._router.slots(self._model, now)
        self._admission = Admission(lanes, weights, max(self._slots, 1), now, table=self._places)
        waiting, self._waiting = self._waiting, {}
        for ticket, exchange in waiting.items():
            ticket.state = State.OVER
            self.arrive(exchange, ticket.fingerprint)

    def arrive(self, exchange: Exchange, fingerprint: int = 0) -> None:
        """Start a request, let it wait, or send it away."""
        now = time.monotonic()
        if exchange.principal.lane not in self._patience_s:  # the lane went while the request was on its way
            exchange.principal = msgspec.structs.replace(exchange.principal, lane=self._lanes[-1].name)
        principal, admission = exchange.principal, self._admission
        if not self._slots:
            self._look(now)
            if not self._slots and self._router.soonest(self._model, now) - now > self._patience_s[principal.lane]:
                self._start(exchange)  # nobody is to be had in time: it says so itself, and until when
                return
        room = self._room(now, best=principal.lane == self._lanes[0].name)
        if not fingerprint and (admission.waiting or room.free <= self._slots * FEW):
            fingerprint = _fingerprint(exchange)
        expected = exchange.expected
        request = Request(principal.tenant, principal.lane, expected.work_s, expected.first_token_s, fingerprint)
        decision = admission.arrive(request, room, now)
        if isinstance(decision, Refused):
            self._send_away(exchange, decision, not self._slots)
        else:
            exchange.ticket = decision
            if decision.state is State.RUNNING:
                self._in_use += 1
                self._start(exchange)
            else:
                exchange.waiting = True
                self._waiting[decision] = exchange
        if admission.evicted:
            self._answer_evicted()

    def began(self, ticket: Ticket, exchange: Exchange) -> None:
        """Learn from a first token whether worse lanes leave enough to better ones."""
        unloaded_s = OVERHEAD_S + self._router.reads_s(self._model, exchange.size.body_bytes)
        self._admission.began(ticket, exchange.first_token_s, unloaded_s, self._slots, time.monotonic())

    def ended(self, ticket: Ticket) -> None:
        """Note that a request has its answer, or that its client has left."""
        if ticket.state is State.RUNNING:
            self._in_use -= 1
            if self._waiting:
                self._fill_soon()
        else:
            self._waiting.pop(ticket, None)
        self._admission.forget(ticket)

    def has_read(self) -> None:
        """Note that a prompt was read: somebody may have waited for that with slots free."""
        if self._waiting:
            self._fill_soon()

    def _free(self, now: float, *, best: bool) -> int:
        """Return how many slots are free, of this worker's part, and for the best lane of those that others lend."""
        own = self._slots - self._in_use
        if own > self._slots * FEW or not self._router.lends:
            return max(own, 0)
        lent = self._router.lent(self._model, now)
        own = max(own - lent.taken, 0)
        return own + lent.left if best and lent.left > NOT_LENT else own

    def _room(self, now: float, *, best: bool) -> Room:
        """Return what room there is for the best lane, or for another."""
        free, router = self._free(now, best=best), self._router
        few = 0 < free <= self._slots * FEW
        if best:
            return Room(free, self._slots, better_soon=few and router.better_soon(self._model, now))
        if not free:
            return Room(0, self._slots)
        idle = free <= self._most_kept and router.any_idle(self._model, now)
        return Room(free, self._slots, reads_s=router.may_read_s(self._model, self.spared, now), idle=idle)

    def found_full(self) -> None:
        """Note that a request that was let through found no replica: there is less room than was thought."""
        self._look(time.monotonic())

    def tick(self, now: float) -> None:
        """Look at what room there is, and at who waits; to be called every half second or oftener."""
        self._look(now)
        self._admission.tick(now)
        self._answer_evicted()
        if self._waiting:
            self._fill()

    def _look(self, now: float) -> None:
        self._slots = self._router.slots(self._model, now)
        if self._slots:
            self._admission.rate.expected = float(self._slots)
            router, model = self._router, self._model
            for_nothing = router.most_kept(model, NOTHING) or 0.0
            least = min(int(for_nothing * self._slots), router.beyond_enough(model))
            self._most_kept = max(int(MOST_EVER * self._slots), least)
            self._admission.lets_idle(router.most_kept(model, KEPT_COSTS), least)

    def _fill_soon(self) -> None:
        """Fill later in this turn of the loop: the last attempt lets its replica go after its answer has left."""
        if not self._filling:
            self._filling = True
            asyncio.get_running_loop().call_soon(self._fill)

    def _fill(self) -> None:
        self._filling = False
        now, admission, best = time.monotonic(), self._admission, self._lanes[0].name
        while (ticket := admission.take(self._room(now, best=admission.waiting_in(best) > 0), now)) is not None:
            exchange = self._waiting.pop(ticket)
            exchange.waiting = False
            self._in_use += 1
            self._start(exchange)
        self._answer_evicted()

    def _answer_evicted(self) -> None:
        evicted, self._admission.evicted = self._admission.evicted, []
        for refused in evicted:
            assert refused.ticket is not None
            exchange = self._waiting.pop(refused.ticket)
            exchange.ticket = None
            self._send_away(exchange, refused, not self._slots)

    def views(self, running: Mapping[str, int], refused: Mapping[tuple[str, str], int]) -> list[LaneView]:
        """Return the lanes as they stand; `running` by lane, `refused` by lane and reason, of all models."""
        return [
            LaneView(
                model=self._model,
                lane=lane.name,
                priority=lane.priority,
                ttft_s=lane.ttft_s,
                max_waiting=lane.max_waiting,
                running=running.get(lane.name, 0),
                waiting=self._admission.waiting_in(lane.name),
                places=self._admission.places_in(lane.name),
                slots=self._slots,
                refused={reason: count for (name, reason), count in refused.items() if name == lane.name},
            )
            for lane in self._lanes
        ]


def _fingerprint(exchange: Exchange) -> int:
    """Return what a client that comes back is known by, to any worker: its key, and what it asks."""
    known_by = blake2b(exchange.principal.sha256.encode(), digest_size=8)
    for value in exchange.ask.fields.values():
        known_by.update(value)
    return int.from_bytes(known_by.digest()) or 1
