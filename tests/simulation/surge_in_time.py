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
from secondsource.policy.admission import Refused
from secondsource.policy.fair_queue import Ticket
from secondsource.policy.place_table import TABLE_BYTES, PlaceTable
from tests.simulation.replica_in_time import SimulatedReplica
from tests.simulation.worker_in_time import Asked, Board, SimulatedWorker

PAID, FREE = "paid", "free"
LANES = (Lane(name=PAID, priority=0, ttft_s=2.0), Lane(name=FREE, priority=10, ttft_s=10.0))
FREE_TENANTS = {"flood": 0.6, "crowd": 0.3, "middle": 0.09, "trickle": 0.01}
PART_PAID = 0.1
PATIENCE_S = 3600.0
TICK_S = 0.5


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
    workers: int = 1
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
        slots, speed, workers = self.scenario.slots, self.scenario.speed, self.scenario.workers
        self.replicas = [
            self.scenario.kind(self.at, lambda: self.now, slots, *speed) for _ in range(self.scenario.replicas)
        ]
        full_step_s = speed.step_s + slots * speed.step_per_answer_s
        answer_s = self.scenario.sizes.mean_answer * full_step_s  # nobody knows how long an answer will be
        self._sends_to = Random(f"{self.scenario.seed} workers")
        places = memoryview(bytearray(workers * TABLE_BYTES))
        boards = [(replica, Board(workers)) for replica in self.replicas]
        self.workers = [
            SimulatedWorker(
                number,
                boards,
                LANES,
                PlaceTable(places, workers, number + 1),
                self,
                self._chance,
                lambda: self.now,
                speed.prompt_tokens_per_s,
                answer_s,
            )
            for number in range(workers)
        ]

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
        worker = self._sends_to.choice(self.workers)
        if worker.ask(client) and client.lane == FREE and self._chance.random() < self.scenario.leaves:
            self.at(self.now + self._chance.uniform(0.0, 5.0), lambda: self.leave(client, worker))

    def sent_away(self, asked: Asked, refused: Refused) -> None:
        """Tell a client when to come back, in whole seconds as HTTP does."""
        client = self.clients[asked.number]
        self.refusals[refused.reason] += 1
        wait_s = ceil(refused.retry_after_s)
        self.retry_after_s.append(float(wait_s))
        client.told += 1
        client.end = refused.reason
        comes_back = client.told > 1 or self._chance.random() < self.scenario.obeys
        if client.lane == FREE and comes_back and wait_s <= PATIENCE_S:
            client.told_at, client.promised = self.now, self.now + wait_s
            self.at(client.promised, lambda: self.try_once(client))

    def leave(self, client: Client, worker: SimulatedWorker) -> None:
        """Let a client hang up if it still waits."""
        if worker.leave(client):
            client.end = "left"

    # -- what a worker says

    def got_in(self, asked: Asked) -> None:
        """Note that a request goes to a replica."""
        self.clients[asked.number].got_in_at = self.now

    def began(self, asked: Asked) -> None:
        """Note a first token."""
        client = self.clients[asked.number]
        client.first_token_s = self.now - client.tried_at

    def answered(self, asked: Asked) -> float:
        """Note that a client has its answer; returns how long after its first token."""
        client = self.clients[asked.number]
        assert client.first_token_s is not None
        client.end = "ok"
        return self.now - client.tried_at - client.first_token_s

    def tick(self) -> None:
        """Do what is done now and then."""
        for worker in self.workers:
            worker.tick()
        written = sum(replica.tokens_written for replica in self.replicas)
        waiting = sum(worker.admission.waiting for worker in self.workers)
        places = sum(worker.admission.places_in(FREE) for worker in self.workers)
        self.samples.append(Sample(self.now, waiting, places, written))
        if self.now < self.scenario.ends:
            self.at(self.now + TICK_S, self.tick)

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
