"""Conversations over eight replicas with prefix caches: nearly the hits of one infinite cache, and even loads.

The trace is made here, from a seed: a system prompt that all share, conversations that come back and grow, sizes that
differ by a hundred times. `benchmarks/prefix_affinity.py` does the same to a recorded trace.
"""

from collections import OrderedDict
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from secondsource.policy.prefix_affinity import BOUND, PrefixAffinity, prefix_blocks
from secondsource.policy.replica import Replica
from secondsource.policy.routing import Need, Router, Wanted
from tests.fleets import MODEL, fleet, pool

REPLICAS = 8
CACHE = 4000  # blocks of each replica


def trace(seed: int, conversations: int = 1500) -> list[tuple[float, list[int]]]:
    """Return prompts in order of time, each with the hashes of its blocks."""
    random = Random(seed)
    events: list[tuple[float, list[int]]] = []
    for _ in range(conversations):
        at = random.uniform(0.0, 500.0)
        blocks = [1]  # the system prompt
        for _ in range(min(1 + int(random.expovariate(0.4)), 12)):
            blocks = blocks + [random.getrandbits(64) for _ in range(min(1 + int(random.lognormvariate(1.2, 0.9)), 60))]
            events.append((at, blocks))
            at += random.uniform(20.0, 120.0)
    return sorted(events)


def hits(cache: OrderedDict[int, None], blocks: list[int], capacity: int) -> int:
    count = 0
    for block in blocks:
        if block not in cache:
            break
        count += 1
    for block in reversed(blocks):
        cache[block] = None
        cache.move_to_end(block)
    while len(cache) > capacity:
        cache.popitem(last=False)
    return count


def test_hits_are_nearly_those_of_one_infinite_cache_and_loads_even() -> None:
    events = trace(1)
    infinite: OrderedDict[int, None] = OrderedDict()
    most = sum(hits(infinite, blocks, 10**9) for _, blocks in events)
    affinity = PrefixAffinity([f"r{number}" for number in range(REPLICAS)])
    caches: list[OrderedDict[int, None]] = [OrderedDict() for _ in range(REPLICAS)]
    loads, found = [0.0] * REPLICAS, 0
    for now, blocks in events:
        expected = 0.025 * len(blocks) + 2.0
        place = affinity.choose(blocks, expected, [True] * REPLICAS, now)
        assert place is not None
        cached = hits(caches[place], blocks, CACHE)
        affinity.correct(place, -0.025 * cached)
        loads[place] += expected - 0.025 * cached
        found += cached
    assert found >= 0.9 * most, f"{found} of {most} blocks"
    assert max(loads) <= 1.25 * sum(loads) / REPLICAS, loads


def test_the_router_finds_the_caches_too_in_two_pools_of_unequal_weight() -> None:
    events = trace(2)
    infinite: OrderedDict[int, None] = OrderedDict()
    most = sum(hits(infinite, blocks, 10**9) for _, blocks in events)
    over = Router(fleet(pool("a", 6, weight=6.0), pool("b", 2, weight=2.0)), Random(0))
    caches: dict[Replica, OrderedDict[int, None]] = {replica: OrderedDict() for replica in over.replicas}
    loads, found = dict.fromkeys(over.replicas, 0.0), 0
    for now, blocks in events:
        expected = 0.025 * len(blocks) + 2.0
        replica = over.choose(Wanted(MODEL, need=Need(expected, 1, tuple(blocks[:8]))), now)
        assert isinstance(replica, Replica)
        cached = hits(caches[replica], blocks, CACHE)
        loads[replica] += expected - 0.025 * cached
        found += cached
    assert found >= 0.9 * most, f"{found} of {most} blocks"
    assert max(loads.values()) <= 1.25 * sum(loads.values()) / REPLICAS, loads
    of_b = sum(load for replica, load in loads.items() if replica.pool.name == "b")
    assert 0.22 <= of_b / sum(loads.values()) <= 0.28


prompts = st.lists(st.tuples(st.integers(0, 40), st.floats(0.1, 5.0), st.floats(0.0, 3.0)), max_size=200)


@settings(max_examples=50)
@given(prompts, st.integers(2, 9))
def test_no_replica_is_given_more_than_the_bound_allows(script: list[tuple[int, float, float]], count: int) -> None:
    affinity = PrefixAffinity([f"r{number}" for number in range(count)])
    now = 0.0
    for conversation, work, wait in script:
        now += wait
        affinity._fade(now)
        before = list(affinity._loads)
        place = affinity.choose([conversation], work, [True] * count, now)
        assert place is not None
        fits = before[place] + work <= BOUND * (sum(before) + work) / count + 1e-9
        assert fits or before[place] == min(before)


@given(st.lists(st.booleans(), min_size=3, max_size=3))
def test_only_a_replica_with_room_is_chosen(room: list[bool]) -> None:
    place = PrefixAffinity(["a", "b", "c"]).choose([5], 1.0, room, 0.0)
    assert place is None if not any(room) else place is not None and room[place]


def test_workers_that_share_nothing_agree() -> None:
    homes = []
    for _ in range(2):
        affinity = PrefixAffinity(["a", "b", "c"])
        affinity._loads = [100.0, 100.0, 100.0]
        homes.append([affinity._next(key << 40, 1.0, [True] * 3, 200.0) for key in range(1, 10**6, 9973)])
    assert homes[0] == homes[1]
    assert len(set(homes[0])) == 3


def test_one_replica_less_moves_only_its_own() -> None:
    four, three = PrefixAffinity(["a", "b", "c", "d"]), PrefixAffinity(["a", "b", "c"])
    keys = [key << 40 for key in range(1, 10**6, 9973)]
    before = [four._next(key, 0.0, [True] * 4, 1.0) for key in keys]
    after = [three._next(key, 0.0, [True] * 3, 1.0) for key in keys]
    assert all(was in (3, now) for was, now in zip(before, after, strict=True))


def test_blocks_of_text_share_what_their_beginnings_share() -> None:
    one, two = prefix_blocks(b"a" * 5000), prefix_blocks(b"a" * 4096 + b"b" * 3000)
    assert len(one) == 2
    assert len(two) == 3
    assert one == two[:2]
    assert prefix_blocks(b"a" * 2047) == []
