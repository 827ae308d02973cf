"""Who is let in, who waits, who is sent away and until when: one `Admission` for each model.

arrive ──► room, and nobody before it? ──► RUNNING
       ──► first token in time?         ──► WAITING ──► take ──► RUNNING ──► over
       ──► Refused, with a place kept     │ too late, or a better lane needs the room: evicted
                                          └ forget: its client has left

Better lanes come first, always; within a lane tenants share by weight. The caller says how much room its replicas
have and what time it is. Work is an estimate in slot-seconds: how long the request occupies one slot of a replica.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from enum import StrEnum
from math import ceil, log
from typing import NamedTuple

from secondsource.core.fleet import Lane
from secondsource.policy.drain_rate import Demand, DrainRate
from secondsource.policy.fair_queue import FairQueue, Shares, State, Ticket
from secondsource.policy.first_token import PredictionError
from secondsource.policy.lanes import Lanes
from secondsource.policy.place_table import PlaceTable
from secondsource.policy.places import Arrival, Places
from secondsource.policy.reserve import Reserve

SHORTEST_RETRY_S = 1.0
GAP_FILL = 0.1  # of a lane's ttft_s: so much waits always, lest a promised guest who stays away leave a slot idle
KEPT_COSTS = 0.05  # of what is made, by slots that are kept for better lanes and not in use by them
NOTHING = 0.01  # of what is made: slots that cost no more are kept
MOST_HEADROOM = 0.11  # of all slots, while nobody knows what a slot is worth
MOST_EVER = 0.5
FEWEST_WITH_HEADROOM = 8  # slots
HEADROOM_MISSES = 0.01  # how often a better lane may find the slots kept free for it taken
PRESSED_S = 10.0  # after somebody found no slot or was sent away: else a lane seldom holds better ones up
LITTLE = 1e-3  # of what is drained: better lanes that ask for less need nothing kept
LEAST_RATE = 0.02  # of the whole: what a lane is told it has while better ones take all
NO_LIMIT = float("inf")


class Reason(StrEnum):
    """Why a request was sent away; `rejected` before any work, `evicted` after it had waited."""

    QUEUE_FULL = "rejected-queue-full"
    TTFT = "rejected-ttft"
    EARLY = "rejected-before-its-time"
    EVICTED_TTFT = "evicted-ttft"
    EVICTED_FOR_BETTER = "evicted-for-a-better-lane"


class Request(NamedTuple):
    """What admission needs to know of a request."""

    tenant: str
    lane: str
    work: float  # slot-seconds
    first_token_s: float  # from dispatch to first token
    fingerprint: int = 0  # of key and body, to know who comes back; 0 is unknown


class Room(NamedTuple):
    """The slots of all replicas that may be asked now: those free, and all."""

    free: int
    slots: int
    better_soon: bool = False  # a slot that frees soon is better for the best lane than any free now
    reads_s: float = NO_LIMIT  # a worse lane's prompt may be read so long, lest the best lane find all replicas reading
    idle: bool = False  # a replica has nothing to do: what is kept there makes nothing, and most of it stays free


class Refused(NamedTuple):
    """A request that was sent away; `ticket` is the one that had waited."""

    reason: Reason
    retry_after_s: float
    ticket: Ticket | None = None


class _LaneState:
    __slots__ = ("demand", "lane", "line", "place", "places", "pressed_at", "queue", "reserve", "shares")

    def __init__(self, lane: Lane, place: int, weights: Mapping[str, float], table: PlaceTable, now: float) -> None:
        self.lane = lane
        self.place = place
        self.shares = Shares(weights)
        self.queue = FairQueue(self.shares)
        self.places = Places(self.shares, table)
        self.demand = Demand(now)
        self.reserve = Reserve()
        self.pressed_at = -NO_LIMIT  # when somebody last found no slot but those left to better lanes, or was sent away
        self.line: deque[Ticket] = deque()  # those waiting, in order of arrival: whose time runs out first


class Admission:
    """The lanes' queues of one model."""

    __slots__ = ("_lanes", "_least_kept", "_may_idle", "_most_waiting", "error", "evicted", "rate", "waiting")

    def __init__(
        self,
        lanes: Sequence[Lane],
        weights: Mapping[str, float],
        slots: int,
        now: float,
        most_waiting: int = 10_000,
        table: PlaceTable | None = None,
    ) -> None:
        """Take the lanes, the tenants' weights and the slots there are; `table` is where places are kept, if shared."""
        table = PlaceTable() if table is None else table
        ordered = Lanes(lanes).ordered
        self._lanes = {lane.name: _LaneState(lane, place, weights, table, now) for place, lane in enumerate(ordered)}
        self._most_waiting = most_waiting
        self._may_idle: float | None = None
        self._least_kept = 0
        self.rate = DrainRate(float(slots), now)
        self.error = PredictionError()
        self.waiting = 0
        self.evicted: list[Refused] = []  # for the caller to answer and to clear

    def arrive(self, request: Request, room: Room, now: float) -> Ticket | Refused:
        """Let a request in: its ticket is RUNNING or WAITING; or send it away."""
        state = self._lanes[request.lane]
        state.demand.note(request.work, now)
        due = False
        if request.fingerprint:
            claim = state.places.claim(request.fingerprint, now)
            if claim.arrival is Arrival.EARLY:
                return Refused(Reason.EARLY, claim.at - now)
            due = claim.arrival is Arrival.DUE
        limit = NO_LIMIT if state.lane.ttft_s is None else state.lane.ttft_s
        ticket = Ticket(
            request.tenant, request.lane, request.work, now, request.first_token_s, now + limit, request.fingerprint
        )
        may_run = room.free and self._may_run(state, room, now)
        if not may_run:
            state.pressed_at = now
        elif not self._before(state) and request.first_token_s < self._longest_s(state, room, now):
            ticket.predicted_s = request.first_token_s
            return self._run(ticket, now)
        wait_s = self._wait_s(state, request.tenant, request.work, now)
        ticket.predicted_s = wait_s + request.first_token_s
        if not due and not self._in_time(state, ticket, limit, now):
            return self._send_away(state, ticket, Reason.TTFT, wait_s, now)
        if not self._make_place(state, due=due, now=now):
            return self._send_away(state, ticket, Reason.QUEUE_FULL, wait_s, now)
        self._wait(state, ticket, due=due)
        self.rate.note(0.0, now, more_waits=True)
        return ticket

    def take(self, room: Room, now: float) -> Ticket | None:
        """Return the next ticket to run; None when none may. To be called again until it is None."""
        if not room.free or not self.waiting:
            return None
        for state in self._lanes.values():
            if not state.queue.waiting:
                continue
            if not self._may_run(state, room, now):
                return None
            while (ticket := state.queue.pop(self._longest_s(state, room, now))) is not None:
                self.waiting -= 1
                if now + ticket.first_token_s <= ticket.deadline:
                    return self._run(ticket, now)
                self._evict(state, ticket, Reason.EVICTED_TTFT, now)
        return None

    def first_token(self, ticket: Ticket, now: float) -> None:
        """Note a first token, against which its prediction is judged."""
        self.error.observed(ticket.predicted_s, now - ticket.arrived)

    def began(self, ticket: Ticket, took_s: float, unloaded_s: float, slots: int, now: float) -> None:
        """Note how long a first token took from arrival, and how long one of its size does without any load."""
        state = self._lanes[ticket.lane]
        if state.lane.ttft_s is not None:
            state.reserve.first_token(took_s, unloaded_s, state.lane.ttft_s, slots, now)

    def forget(self, ticket: Ticket) -> None:
        """Note that a client has left, or has its answer; a ticket that waited no longer does."""
        if ticket.state is State.WAITING:
            self._lanes[ticket.lane].queue.forget(ticket)
            self.waiting -= 1
        ticket.state = State.OVER

    def tick(self, now: float) -> None:
        """Evict those whose time has run out and forget lapsed places; to be called every second or oftener."""
        for state in self._lanes.values():
            line = state.line
            while line and (line[0].state is not State.WAITING or line[0].deadline < now + line[0].first_token_s):
                ticket = line.popleft()
                if ticket.state is State.WAITING:
                    state.queue.forget(ticket)
                    self.waiting -= 1
                    self._evict(state, ticket, Reason.EVICTED_TTFT, now)
            state.places.sweep(now)

    def lets_idle(self, part: float | None, for_nothing: int = 0) -> None:
        """Take which part of the slots may be idle on average, for what it costs; None is not known.

        `for_nothing`: so many slots cost nothing, and are kept wherever better lanes ask for anything.
        """
        self._may_idle = part
        self._least_kept = for_nothing

    def waiting_in(self, lane: str) -> int:
        """Return how many wait in a lane."""
        return self._lanes[lane].queue.waiting

    def places_in(self, lane: str) -> int:
        """Return how many places a lane keeps."""
        return len(self._lanes[lane].places)

    def _run(self, ticket: Ticket, now: float) -> Ticket:
        ticket.state = State.RUNNING
        self.rate.note(ticket.work, now, more_waits=bool(self.waiting))
        return ticket

    def _may_run(self, state: _LaneState, room: Room, now: float) -> bool:
        if not state.place:
            return not room.better_soon
        return room.idle or room.free > self._headroom(state, room.slots, now)

    def _longest_s(self, state: _LaneState, room: Room, now: float) -> float:
        """Return how long the first token may take of what this lane has run now."""
        spares = state.place and now - state.pressed_at < PRESSED_S and self._better_load(state, now) >= LITTLE
        return room.reads_s if spares else NO_LIMIT

    def _better_load(self, state: _LaneState, now: float) -> float:
        """Return which part of what is drained better lanes ask for."""
        return sum(one.demand.per_s(now) for one in self._lanes.values() if one.place < state.place) / self.rate.per_s

    def _before(self, state: _LaneState) -> int:
        """Return how many wait in this lane and better ones."""
        if not self.waiting:
            return 0
        return sum(other.queue.waiting for other in self._lanes.values() if other.place <= state.place)

    def _rate_for(self, state: _LaneState, now: float) -> float:
        """Return the work per second that better lanes leave to this one."""
        whole = self.rate.per_s
        if not state.place:
            return whole
        better = sum(other.demand.per_s(now) for other in self._lanes.values() if other.place < state.place)
        return max(whole - better, whole * LEAST_RATE)

    def _headroom(self, state: _LaneState, slots: int, now: float) -> int:
        """Return how many free slots this lane leaves to better ones: as many as their demand makes use of.

        With load r of the better lanes alone, they find j slots taken with probability r^j or so.
        """
        if not state.place:
            return 0
        others = [other for other in self._lanes.values() if other.place < state.place]
        kept = min(max(other.reserve.slots(now) for other in others), max(slots - 1, 0))
        load = min(self._better_load(state, now), 0.99)
        if load < LITTLE:
            return kept
        most = MOST_HEADROOM * slots
        if self._may_idle is not None:  # of those kept, better lanes have load / (1 - load) in use on average
            most = min(self._may_idle * slots + load / (1.0 - load), MOST_EVER * slots)
            kept = min(kept, int(most))
        most = max(int(most), min(slots // FEWEST_WITH_HEADROOM, 1))
        return max(min(ceil(log(HEADROOM_MISSES) / log(load)), most), kept, self._least_kept)

    def _wait_s(self, state: _LaneState, tenant: str, work: float, now: float) -> float:
        """Return how long a request of this tenant would wait: behind its own, or behind all if that is sooner."""
        ahead = sum(other.queue.work for other in self._lanes.values() if other.place < state.place)
        own = state.queue.work_before(tenant) / state.shares.share(tenant)
        return (ahead + min(own, state.queue.work)) / self._rate_for(state, now)

    def _in_time(self, state: _LaneState, ticket: Ticket, limit: float, now: float) -> bool:
        if ticket.predicted_s > limit:
            return False
        wait_s = ticket.predicted_s - ticket.first_token_s
        booked_s = state.places.booked_until(ticket.tenant) - now
        return booked_s + ticket.first_token_s <= limit or wait_s <= GAP_FILL * limit

    def _make_place(self, state: _LaneState, *, due: bool, now: float) -> bool:
        """Make room in the queues: worse lanes give way to better ones, and those who come anew to those promised."""
        if state.queue.waiting >= state.lane.max_waiting:
            return due and state.lane.max_waiting > 0 and self._give_way(state, now)
        if self.waiting < self._most_waiting:
            return True
        worst = next((one for one in reversed(self._lanes.values()) if one.queue.waiting), None)
        return worst is not None and worst.place > state.place and self._give_way(worst, now)

    def _give_way(self, state: _LaneState, now: float) -> bool:
        ticket = state.queue.least_deserving()
        if ticket is None:
            return False
        state.queue.forget(ticket)
        self.waiting -= 1
        self._evict(state, ticket, Reason.EVICTED_FOR_BETTER, now)
        return True

    def _wait(self, state: _LaneState, ticket: Ticket, *, due: bool) -> None:
        state.queue.push(ticket, due=due)
        self.waiting += 1
        state.line.append(ticket)
        if len(state.line) > 2 * state.queue.waiting + 64:
            state.line = deque(one for one in state.line if one.state is State.WAITING)

    def _evict(self, state: _LaneState, ticket: Ticket, reason: Reason, now: float) -> None:
        wait_s = self._wait_s(state, ticket.tenant, ticket.work, now)
        self.evicted.append(self._send_away(state, ticket, reason, wait_s, now))

    def _send_away(self, state: _LaneState, ticket: Ticket, reason: Reason, wait_s: float, now: float) -> Refused:
        ticket.state = State.OVER
        state.pressed_at = now
        takes_s = ticket.work / (self._rate_for(state, now) * state.shares.share(ticket.tenant))
        earliest = now + max(wait_s, SHORTEST_RETRY_S)
        at = state.places.promise(ticket.tenant, ticket.fingerprint, earliest, takes_s, now)
        waited = ticket if reason in (Reason.EVICTED_TTFT, Reason.EVICTED_FOR_BETTER) else None
        return Refused(reason, at - now, waited)
