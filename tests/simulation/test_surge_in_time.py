"""Ten minutes of five times what the fleet can bear, in virtual time; a failure prints the command that runs it again.

More seeds: SECONDSOURCE_SOAK=20 .venv/bin/python -m pytest tests/simulation/test_surge_in_time.py
"""

import os
from collections import deque
from dataclasses import dataclass
from typing import Any

import pytest

from secondsource.policy.admission import Reason
from secondsource.policy.fair_queue import State, Ticket
from tests.simulation.replica_in_time import SharingReplica
from tests.simulation.surge_in_time import (
    FREE,
    LANES,
    PAID,
    Asked,
    Client,
    Sample,
    Scenario,
    Sizes,
    Speed,
    SurgeWorld,
    ttft_s_p99,
)

SEEDS = range(1, 1 + (int(os.environ.get("SECONDSOURCE_SOAK", "0")) or 1))
AS_OVER_SOCKETS = {
    "speed": Speed(10_000.0, 0.03, 0.002),
    "sizes": Sizes(answer=(3.5, 0.6), most_prompt=6000, most_answer=200, mean_answer=39.6),
}
ONE_PROCESSOR = {  # llama.cpp with a small model, a thread a replica: what a slot adds, the others lose
    "replicas": 2,
    "slots": 8,
    "kind": SharingReplica,
    "speed": Speed(800.0, 0.001, 0.0034),
    "sizes": Sizes(prompt=(4.1, 0.8), answer=(3.5, 0.5), most_prompt=450, most_answer=80, mean_answer=36.0),
}
FLEETS: dict[str, tuple[dict[str, Any], float]] = {  # and the requests per second that `WithoutPolicy` serves
    "4x16": ({}, 31.0),
    "4x16-slow": (AS_OVER_SOCKETS, 25.8),
    "4x16-slow, two workers": (AS_OVER_SOCKETS | {"workers": 2}, 25.8),
    "8x8": ({"replicas": 8, "slots": 8}, 41.0),
    "2x8-one-processor": (ONE_PROCESSOR, 8.6),
}
SETTLES_S = 30.0


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One run by its seed where the command line gives one."""
    if "seed" in metafunc.fixturenames:
        given = metafunc.config.getoption("--seed")
        metafunc.parametrize("seed", SEEDS if given is None else [given], scope="module")
    if "fleet" in metafunc.fixturenames:
        metafunc.parametrize("fleet", FLEETS, scope="module")


class WithoutPolicy(SurgeWorld):
    """The same fleet with every slot always taken, first come first served: what its capacity allows."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.line: deque[Client] = deque()

    def try_once(self, client: Client) -> None:
        self.line.append(client)
        self.fill()

    def fill(self) -> None:
        while self.line and any(replica.in_flight < replica.slots for replica in self.replicas):
            client = self.line.popleft()
            client.ticket = Ticket(client.tenant, client.lane, 0.0, self.now)
            client.ticket.state = State.RUNNING
            self.workers[0].start(client)

    def answered(self, asked: Asked) -> float:
        self.at(self.now, self.fill)
        return super().answered(asked)

    def tick(self) -> None:
        self.samples.append(Sample(self.now, 0, 0, sum(replica.tokens_written for replica in self.replicas)))
        self.at(self.now + 0.5, self.tick)


@dataclass(frozen=True)
class Runs:
    """The surge, its paid requests alone, and what the fleet can make."""

    surge: SurgeWorld
    alone: SurgeWorld
    tokens_per_s: float
    requests_per_s: float


@pytest.fixture(scope="module")
def runs(seed: int, fleet: str) -> Runs:
    changes, requests_per_s = FLEETS[fleet]
    surge = SurgeWorld(Scenario(seed, **changes), requests_per_s)
    surge.run()
    alone = SurgeWorld(Scenario(seed, free=False, **changes), requests_per_s)
    alone.run()
    only = changes | {"warm_s": 10.0, "surge_s": 190.0, "after_s": 0.0, "workers": 1}
    most = WithoutPolicy(Scenario(seed, **only), requests_per_s)
    most.run()
    return Runs(surge, alone, most.written_per_s(20.0, 200.0), requests_per_s)


def check(holds: bool, what: str, seed: int) -> None:
    again = f".venv/bin/python -m pytest tests/simulation/test_surge_in_time.py --seed {seed}"
    assert holds, f"{what}; again: {again}"


def surging(world: SurgeWorld, lane: str) -> list[Client]:
    return world.of(lane, world.scenario.warm_s, world.scenario.surge_ends)


def in_time(clients: list[Client], lane: str) -> float:
    limit = next(one.ttft_s for one in LANES if one.name == lane)
    assert limit is not None
    good = sum(one.end == "ok" and (one.first_token_s or limit + 1.0) <= limit for one in clients)
    return good / len(clients)


def test_paid_is_served_as_if_it_were_alone(runs: Runs, seed: int) -> None:
    paid = surging(runs.surge, PAID)
    check(in_time(paid, PAID) >= 0.999, f"paid in time: {in_time(paid, PAID)}", seed)
    ratio = ttft_s_p99(paid) / ttft_s_p99(surging(runs.alone, PAID))
    check(ratio <= 1.2, f"paid TTFT p99 is {ratio:.3f} times its value alone", seed)


def test_capacity_is_made_use_of(runs: Runs, seed: int) -> None:
    scenario = runs.surge.scenario
    made = runs.surge.written_per_s(scenario.warm_s + SETTLES_S, scenario.surge_ends)
    check(made >= 0.95 * runs.tokens_per_s, f"{made:.0f} of {runs.tokens_per_s:.0f} tokens/s", seed)
    served = [one for one in surging(runs.surge, FREE) if one.end == "ok"]
    late = sum((one.first_token_s or 99.0) > 10.0 for one in served)
    check(late <= 0.02 * len(served), f"{late} of {len(served)} free answers began too late to count", seed)


def test_who_is_sent_away_gets_in_when_promised(runs: Runs, seed: int) -> None:
    refused = runs.surge.refusals
    check(refused[Reason.TTFT] > 10_000, f"hardly anybody was sent away: {refused}", seed)
    check(refused[Reason.EVICTED_TTFT] < 0.1 * refused[Reason.TTFT], f"too many waited in vain: {refused}", seed)
    check(runs.surge.honest() >= 0.95, f"{runs.surge.honest():.1%} got in within 30% of the promised wait", seed)


def test_a_trickle_is_not_starved_by_a_flood(runs: Runs, seed: int) -> None:
    trickle = [one for one in surging(runs.surge, FREE) if one.tenant == "trickle"]
    check(in_time(trickle, FREE) >= 0.97, f"trickle in time: {in_time(trickle, FREE)}", seed)
    flood = [one for one in surging(runs.surge, FREE) if one.tenant == "flood"]
    check(in_time(flood, FREE) < 0.2, "the flood was let in", seed)


def test_nothing_grows_without_bound(runs: Runs, seed: int) -> None:
    middle = (runs.surge.scenario.warm_s + runs.surge.scenario.surge_ends) / 2.0
    first = max(one.waiting for one in runs.surge.samples if one.at < middle)  # most come at once in the first minute
    last = max(one.waiting for one in runs.surge.samples if one.at >= middle)
    check(last <= first, f"the queue grew from {first} to {last}", seed)
    promised_s = LANES[-1].ttft_s or 0.0
    check(first <= promised_s * runs.requests_per_s, f"{first} waited, which no fleet as fast serves in time", seed)
    check(max(one.places for one in runs.surge.samples) <= 100_000, "too many places are kept", seed)


def test_it_is_over_when_it_is_over(runs: Runs, seed: int) -> None:
    ends = runs.surge.scenario.surge_ends
    after = runs.surge.of(FREE, ends + 10.0, ends + 60.0)
    check(in_time(after, FREE) >= 0.99, f"free after the surge: {in_time(after, FREE)}", seed)
    paid = [ttft_s_p99(world.of(PAID, ends + 10.0, ends + 60.0)) for world in (runs.surge, runs.alone)]
    check(paid[0] <= 1.2 * paid[1], f"afterwards paid has {paid[0]:.3f} s where it has {paid[1]:.3f} s alone", seed)


def test_the_same_seed_is_the_same_surge() -> None:
    def ends() -> list[str]:
        world = SurgeWorld(Scenario(3, warm_s=5.0, surge_s=20.0, after_s=5.0), FLEETS["4x16"][1])
        world.run()
        return [one.end for one in world.clients]

    assert ends() == ends()
