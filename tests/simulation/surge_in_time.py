"""A surge in virtual time: the real admission over simulated replicas, and clients who do as they are told, or not.

The load is `normal` times what the fleet can bear, and `surge` times it for `surge_s` seconds from `warm_s` on; one
part in ten is paid. A free client that is sent away comes back at the time it was told, with the chance `obeys`.
"""

import heapq
import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil
from random import Random
from typing import NamedTuple

from secondsource.core.fleet import Lane
from secondsource.gateway.model_queue import YIELDS
from secondsource.policy.admission import KEPT_COSTS, NOTHING, Admission, Refused, Request, Room
from secondsource.policy.batching import Batching
from secondsource.policy.fair_queue import State, Ticket
from secondsource.policy.first_token import FirstToken
from secondsource.policy.reading import better_soon
from secondsource.policy.routing import ENOUGH
from tests.simulation.replica_in_time import Job, SimulatedReplica

PAID, FREE = "paid", "free"
LANES = (Lane(name=PAID, priority=0, ttft_s=2.0), Lane(name=FREE, priority=10, ttft_s=10.0))
FREE_TENANTS = {"flood": 0.6, "crowd": 0.3, "middle": 0.09, "trickle": 0.01}
PART_PAID = 0.1
PATIENCE_S = 3600.0
READS_S = YIELDS * 2.0


class Speed(NamedTuple):
    """Of a replica: prompt tokens a second, and what a step takes in seconds, at least and for each answer."""

    prompt_tokens_per_s: float = 20_000.0
    step_s: float = 0.008
    step_per_answer_s: float = 0.0005


class Sizes(NamedTuple):
    """How long prompts and answers are, in tokens: the logarithm's mean and spread."""

    prompt: tuple[float, float] = (6.0, 1.0)
    answer: tuple[float, float] = (4.6, 0.7)
    most_prompt: int = 8000
    most_answer: int = 1000
    mean_answer: float = 126.0


SPEED, SIZES = Speed(), Sizes()


@dataclass(frozen=True)
class Scenario:
    """What is asked of the fleet."""

    seed: int
    normal: float = 0.5
    surge: float = 5.0
    warm_s: float = 60.0
    surge_s: float = 600.0
    after_s: float = 60.0
    obeys: float = 0.2
    leaves: float = 0.02  # clients that hang up while they wait
    free: bool = True  # false: paid alone
    replicas: int = 4
    slots: int = 16
    kind: type[SimulatedReplica] = SimulatedReplica
    speed: Speed = SPEED
    sizes: Sizes = SIZES

    @property
    def surge_ends(self) -> float:
        return self.warm_s + self.surge_s

    @property
    def ends(self) -> float:
        return self.surge_ends + self.after_s


@dataclass
class Client:
    """One request of a client, over all its tries."""

    number: int
    lane: str
    tenant: str
    prompt_tokens: int
    output_tokens: int
    came: float
    promised: float | None = None  # when it was told to come back
    told_at: float = 0.0
    told: int = 0  # how often it was sent away
    tried_at: float = 0.0
    ticket: Ticket | None = None
    first_token_s: float | None = None  # from the last try
    got_in_at: float | None = None
    end: str = ""


@dataclass
class Sample:
    """How things stand at one time."""

    at: float
    waiting: int
    places: int
    tokens_written: int


@dataclass
class SurgeWorld:
    """One run."""

    scenario: Scenario
    requests_per_s: float  # what the fleet can bear
    now: float = 0.0
    clients: list[Client] = field(default_factory=list)
    refusals: Counter[str] = field(default_factory=Counter)
    samples: list[Sample] = field(default_factory=list)
    retry_after_s: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = Random(self.scenario.seed)
        self._chance = Random(self.scenario.seed)  # of all else: the same clients come, whatever becomes of them
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        slots, speed = self.scenario.slots, self.scenario.speed
        self.replicas = [
            self.scenario.kind(self.at, lambda: self.now, slots, *speed) for _ in range(self.scenario.replicas)
        ]
        self.admission = Admission(LANES, {}, slots * len(self.replicas), 0.0)
        self.first_token = FirstToken(speed.prompt_tokens_per_s)
        self.batching = Batching()
        self.work_s = 1.0  # of a request, on average, as the router keeps it
        self._waiting: dict[Ticket, Client] = {}
        full_step_s = speed.step_s + slots * speed.step_per_answer_s
        self._answer_s = self.scenario.sizes.mean_answer * full_step_s  # nobody knows how long an answer will be

    @property
    def now_ns(self) -> int:
        return int(self.now * 1e9)

    def at(self, when: float, what: Callable[[], None]) -> None:
        """Let something happen then."""
        heapq.heappush(self._events, (when, next(self._order), what))

    def run(self) -> None:
        """Let everything happen until the end, and those who are being answered be answered."""
        self.at(0.0, self.next_arrival)
        self.at(0.0, self.tick)
        while self._events:
            when, _, what = heapq.heappop(self._events)
            if when > self.scenario.ends + 60.0:
                break
            self.now = when
            what()

    # -- clients

    def load(self) -> float:
        """Return how many times what the fleet can bear is asked for now."""
        surging = self.scenario.warm_s <= self.now < self.scenario.surge_ends
        return self.scenario.surge if surging else self.scenario.normal

    def next_arrival(self) -> None:
        """Let one client come, and plan the next."""
        sizes = self.scenario.sizes
        if self.now >= self.scenario.ends:
            return
        paid = self.random.random() < PART_PAID
        lane = PAID if paid else FREE
        names = ["acme", "globex"] if paid else list(FREE_TENANTS)
        tenant = self.random.choices(names, None if paid else list(FREE_TENANTS.values()))[0]
        client = Client(
            len(self.clients),
            lane,
            tenant,
            min(max(int(self.random.lognormvariate(*sizes.prompt)), 16), sizes.most_prompt),
            min(max(int(self.random.lognormvariate(*sizes.answer)), 2), sizes.most_answer),
            self.now,
        )
        if paid or self.scenario.free:
            self.clients.append(client)
            self.try_once(client)
        self.at(self.now + self.random.expovariate(self.load() * self.requests_per_s), self.next_arrival)

    def try_once(self, client: Client) -> None:
        """Let a client ask."""
        client.tried_at = self.now
        prefill_s = self.first_token.predicted_s(client.prompt_tokens)
        work = prefill_s + self._answer_s
        self.work_s += 0.02 * (work - self.work_s)
        request = Request(client.tenant, client.lane, work, prefill_s, client.number + 1)
        decision = self.admission.arrive(request, self.room(best=client.lane == PAID), self.now)
        if isinstance(decision, Refused):
            self.sent_away(client, decision)
            return
        client.ticket = decision
        if decision.state is State.RUNNING:
            self.start(client)
        else:
            self._waiting[decision] = client
            if client.lane == FREE and self._chance.random() < self.scenario.leaves:
                self.at(self.now + self._chance.uniform(0.0, 5.0), lambda: self.leave(client))
        self.answer_evicted()

    def sent_away(self, client: Client, refused: Refused) -> None:
        """Tell a client when to come back, in whole seconds as HTTP does."""
        self.refusals[refused.reason] += 1
        wait_s = ceil(refused.retry_after_s)
        self.retry_after_s.append(float(wait_s))
        client.told += 1
        client.end = refused.reason
        comes_back = client.told > 1 or self._chance.random() < self.scenario.obeys
        if client.lane == FREE and comes_back and wait_s <= PATIENCE_S:
            client.told_at, client.promised = self.now, self.now + wait_s
            self.at(client.promised, lambda: self.try_once(client))

    def leave(self, client: Client) -> None:
        """Let a client hang up if it still waits."""
        if client.ticket in self._waiting:
            del self._waiting[client.ticket]
            self.admission.forget(client.ticket)
            client.end = "left"

    # -- what a gateway does

    def room(self, *, best: bool = False) -> Room:
        """Return the slots of all replicas, for the best lane or for the other."""
        free = sum(replica.slots - replica.in_flight for replica in self.replicas)
        soon = best and better_soon(self.replicas, self.work_s, self.now)
        all_read = not best and not any(self._read_soon(one) for one in self.replicas if one.has_room())
        idle = self.scenario.slots > ENOUGH and not all(replica.in_flight for replica in self.replicas)
        return Room(free, self.scenario.slots * len(self.replicas), soon, all_read, idle)

    def _read_soon(self, replica: SimulatedReplica) -> bool:
        return replica.reading.left_s(self.now) <= READS_S

    def start(self, client: Client) -> None:
        """Send a paid request to the replica with least to read, a free one to the least busy, as the router does."""
        client.got_in_at = self.now
        having_room = [replica for replica in self.replicas if replica.in_flight < replica.slots]
        if client.lane == PAID:
            replica = min(having_room, key=lambda one: (one.reading.left_s(self.now), one.in_flight))
        else:
            least = min(replica.in_flight for replica in having_room)
            replica = self._chance.choice([replica for replica in having_room if replica.in_flight == least])
        predicted = self.first_token.predicted_s(client.prompt_tokens, 0, replica.tokens_ahead)
        began, mark = self.now, replica.clock_of_shares.enter(self.now_ns)

        def first_token() -> None:
            client.first_token_s = self.now - client.tried_at
            self.first_token.observed(predicted, self.now - began)
            assert client.ticket is not None
            self.admission.first_token(client.ticket, self.now)
            self.fill()

        def done() -> None:
            assert client.ticket is not None
            assert client.first_token_s is not None
            writing_s = self.now - client.tried_at - client.first_token_s
            share_s = replica.clock_of_shares.leave(self.now_ns, mark) / 1e9
            beside = (self.now - began) / max(share_s, 1e-9)
            self.batching.wrote(client.output_tokens, writing_s, min(beside / replica.slots, 1.0))
            self.admission.forget(client.ticket)
            client.end = "ok"
            self.fill()

        replica.start(Job(client.prompt_tokens, client.output_tokens, first_token, done))

    def fill(self) -> None:
        """Give free slots to those who wait."""
        while True:
            room = self.room(best=self.admission.waiting_in(PAID) > 0)
            ticket = self.admission.take(room, self.now)
            if ticket is None:
                break
            self.start(self._waiting.pop(ticket))
        self.answer_evicted()

    def answer_evicted(self) -> None:
        """Tell those who waited in vain."""
        for refused in self.admission.evicted:
            assert refused.ticket is not None
            self.sent_away(self._waiting.pop(refused.ticket), refused)
        self.admission.evicted.clear()

    def tick(self) -> None:
        """Do what is done now and then."""
        slots = self.scenario.slots
        least = (self.batching.most_kept(NOTHING) or 0.0) * slots
        least_kept = int(min(least, max(slots - ENOUGH, 0.0)) * len(self.replicas))
        self.admission.lets_idle(self.batching.most_kept(KEPT_COSTS), least_kept)
        self.admission.tick(self.now)
        self.answer_evicted()
        self.fill()
        written = sum(replica.tokens_written for replica in self.replicas)
        self.samples.append(Sample(self.now, self.admission.waiting, self.admission.places_in(FREE), written))
        if self.now < self.scenario.ends:
            self.at(self.now + 0.5, self.tick)

    # -- what came of it

    def of(self, lane: str, since: float, until: float) -> list[Client]:
        """Return the lane's clients that came first in this time."""
        return [one for one in self.clients if one.lane == lane and since <= one.came < until]

    def honest(self) -> float:
        """Return which part of those who came back as told got in within 30% of the promised wait."""
        back = [one for one in self.clients if one.promised is not None and one.promised < self.scenario.ends]
        back = [one for one in back if one.end != "left"]
        good = 0
        for one in back:
            assert one.promised is not None
            late = (one.got_in_at or float("inf")) - one.promised
            good += one.told == 1 and abs(late) <= 0.3 * (one.promised - one.told_at)
        return good / max(len(back), 1)

    def written_per_s(self, since: float, until: float) -> float:
        """Return tokens written per second."""
        inside = [one for one in self.samples if since <= one.at <= until]
        return (inside[-1].tokens_written - inside[0].tokens_written) / (inside[-1].at - inside[0].at)


def ttft_s_p99(clients: list[Client]) -> float:
    """Return the 99th percentile of the time to the first token, of those who had one."""
    times = sorted(one.first_token_s for one in clients if one.first_token_s is not None)
    return times[min(int(0.99 * len(times)), len(times) - 1)]
