"""The way in: a request's lane, its limits, its model's queue, and only then its exchange's first attempt."""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable

import msgspec

from secondsource.core.fleet import Fleet, Lane
from secondsource.gateway.authentication import Principal
from secondsource.gateway.exchange import Exchange
from secondsource.gateway.limiting import Limiting
from secondsource.gateway.meter import Meter
from secondsource.gateway.model_queue import ModelQueue
from secondsource.gateway.wire.continuation import tokens_left
from secondsource.gateway.wire.image_request import pixel_steps
from secondsource.gateway.wire.request import PROMPTS, Ask, Endpoint
from secondsource.policy.admission import Refused
from secondsource.policy.expectation import Expectation, Size
from secondsource.policy.fair_queue import State
from secondsource.policy.lanes import Lanes
from secondsource.policy.limits import Exceeded
from secondsource.policy.place_table import PlaceTable
from secondsource.policy.prefix_affinity import BLOCK_BYTES, MOST_DEPTH, prefix_blocks
from secondsource.policy.routing import Need, Router
from secondsource.policy.views import LaneView

TICK_S = 0.1
LONGEST_TIER = 32  # bytes of JSON


class Entrance:
    """Lets requests in, in the order that policy decides."""

    def __init__(
        self,
        fleet: Fleet,
        router: Router,
        limiting: Limiting,
        meter: Meter,
        start: Callable[[Exchange], None],
        places: PlaceTable,
    ) -> None:
        self.limiting = limiting
        self._places = places
        self._router = router
        self._meter = meter
        self._start = start
        self._queues: dict[str, ModelQueue] = {}
        self._next_tick = 0.0
        self._lanes = Lanes(fleet.lanes)
        self.reload(fleet)

    def reload(self, fleet: Fleet) -> None:
        """Take lanes, tenants, limits and models as they are now; the router has the new fleet already."""
        self._lanes = Lanes(fleet.lanes)
        self.limiting.reload(fleet)
        weights = {tenant.name: tenant.weight for tenant in fleet.tenants}
        lanes = [_with_patience(lane, fleet.timeouts.first_token) for lane in fleet.lanes]
        now = time.monotonic()
        for model in fleet.models:
            pools = [pool for pool in fleet.pools if pool.model == model]
            queue = self._queues.get(model)
            if queue is None:
                expectation = Expectation(pools)
                queue = ModelQueue(model, self._router, expectation, self._start, self._send_away, self._places)
                self._queues[model] = queue
            else:
                queue.expectation.reload(pools)
            queue.reload(lanes, weights, now)

    def in_lane(self, principal: Principal, ask: Ask) -> Principal:
        """Return who asks, in the lane that the request is for: the key's own, or a worse one that it names."""
        fields = ask.fields
        if "service_tier" not in fields and "priority" not in fields:
            return principal
        tier, priority = ask.raw("service_tier"), ask.raw("priority")
        number = int(priority) if len(priority) < LONGEST_TIER and priority.removeprefix(b"-").isdigit() else None
        named = tier.strip(b'"').decode("latin-1") if len(tier) < LONGEST_TIER else None
        lane = self._lanes.lane_for(principal.lane, named, number).name
        return principal if lane == principal.lane else msgspec.structs.replace(principal, lane=lane)

    def enter(self, exchange: Exchange) -> None:
        """Start a request, let it wait, or send it away."""
        ask = exchange.ask
        queue = self._queues[ask.model]
        exchange.size = size = Size(ask.body_length, tokens_left(ask, 0, ""), ask.choices)
        if ask.endpoint is Endpoint.IMAGES:
            most = max((pixel_steps(ask, pool) for pool in queue.expectation.pools), default=1)
            exchange.size = size = size._replace(pixel_steps=most)
        exchange.expected = expected = queue.expectation.of(size)
        blocks: tuple[int, ...] = ()
        if ask.body_length >= BLOCK_BYTES and self._router.spreads(ask.model):
            blocks = tuple(prefix_blocks(ask.raw(PROMPTS[ask.endpoint][0]), most=MOST_DEPTH))
        urgent = exchange.principal.lane == self._lanes.ordered[0].name
        nano_usd = max(int(queue.expectation.nano_usd), 1)
        exchange.expect(Need(expected.work_s, nano_usd, blocks, urgent, queue.spared.calm_s))
        if not self.limiting.of(exchange.principal):
            queue.arrive(exchange)
            return

        def answered(exceeded: Exceeded | None) -> None:
            if exchange.over:  # its client left while more was asked for
                self.limiting.settle(exchange)
            elif exceeded is None:
                queue.arrive(exchange)
            else:
                self._exceeds(exchange, exceeded)

        self.limiting.reserve(exchange, queue.expectation.most(size), answered)

    def found_full(self, model: str) -> None:
        """Note that a request that was let in found no replica."""
        self._queues[model].found_full()

    def began(self, model: str) -> None:
        """Note that a replica has read a prompt: who waits for that may go there."""
        self._queues[model].has_read()

    def ended(self, exchange: Exchange) -> None:
        """Note that a request is over; whoever waits is let in later in this turn of the loop."""
        ticket, exchange.ticket = exchange.ticket, None
        if ticket is None:
            return
        queue = self._queues[exchange.ask.model]
        if exchange.first_token_s and ticket.state is State.RUNNING and not exchange.size.pixel_steps:
            self._meter.first_token_predicted(ticket.lane, ticket.predicted_s, exchange.first_token_s)
            queue.began(ticket, exchange)
        queue.ended(ticket)

    def expectation(self, model: str) -> Expectation:
        """Return what requests of a model are expected to need."""
        return self._queues[model].expectation

    def tick(self, now: float) -> None:
        """Do what is due; called as often as one likes."""
        if now >= self._next_tick:
            self._next_tick = now + TICK_S
            for queue in self._queues.values():
                queue.tick(now)

    def views(self, exchanges: Iterable[Exchange]) -> list[LaneView]:
        """Return every model's lanes as they stand."""
        running = Counter((one.ask.model, one.principal.lane) for one in exchanges if not one.waiting)
        found: list[LaneView] = []
        for model, queue in self._queues.items():
            by_lane = {lane: count for (name, lane), count in running.items() if name == model}
            found += queue.views(by_lane, self._meter.refused)
        return found

    # -- sending away

    def _exceeds(self, exchange: Exchange, exceeded: Exceeded) -> None:
        self._meter.refused[exchange.principal.lane, exceeded.reason] += 1
        retry_after = max(math.ceil(exceeded.resets_in_s), 1)
        exchange.send_away(
            429, exceeded.message, code="rate_limit_exceeded", reason=exceeded.reason, retry_after=retry_after
        )

    def _send_away(self, exchange: Exchange, refused: Refused, nobody: bool) -> None:
        lane, model = exchange.principal.lane, exchange.ask.model
        self._meter.refused[lane, refused.reason.value] += 1
        retry_after = max(math.ceil(refused.retry_after_s), 1)
        if nobody:
            code, message = "no_replica_available", f"no replica of '{model}' is free or known to be well"
        else:
            code = "overloaded"
            message = f"'{model}' has more to do than it can for lane '{lane}' ({refused.reason.value})"
        message += f"; try again in {retry_after} s"
        exchange.send_away(503, message, code=code, reason=refused.reason.value, retry_after=retry_after)


def _with_patience(lane: Lane, first_token_s: float) -> Lane:
    """Return a lane that promises something: without a word of its own, what is waited for a replica's first token."""
    return lane if lane.ttft_s is not None else msgspec.structs.replace(lane, ttft_s=first_token_s)
