"""Whatever the state of its replicas, the router chooses only among those that may be chosen, and shares by weight."""

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from secondsource.core.fleet import Continuation, Pool
from secondsource.core.records import Outcome
from secondsource.policy.circuit import CircuitState
from secondsource.policy.replica import Replica
from secondsource.policy.routing import Router, Wait, Wanted
from tests.fleets import MODEL, pool, router

NOW = 100.0
STATES = ("well", "open", "half open", "on trial", "throttled")


@st.composite
def pools(draw: st.DrawFn) -> tuple[Pool, ...]:
    return tuple(
        pool(
            f"pool{number}",
            draw(st.integers(1, 3)),
            supplier=draw(st.sampled_from(["azure", "oci", "gcp"])),
            order=draw(st.integers(0, 2)),
            weight=draw(st.sampled_from([0.5, 1.0, 3.0])),
            continuation=draw(st.sampled_from(Continuation)),
            context_tokens=draw(st.sampled_from([None, 4096, 32768])),
            max_concurrency=draw(st.sampled_from([None, 1, 2])),
        )
        for number in range(draw(st.integers(1, 4)))
    )


def put(replica: Replica, state: str, in_flight: int) -> None:
    circuit = replica.circuit
    replica.in_flight = in_flight
    if state == "throttled":
        circuit.throttled(60.0, NOW)
    elif state != "well":
        circuit.failed(Outcome.CONNECT_FAILED, 0.0)
        if state != "open":
            circuit.probed(alive=True, now=circuit.retry_at)
        if state == "on trial":
            circuit.sent()


@st.composite
def situations(draw: st.DrawFn) -> tuple[Router, Wanted]:
    over = router(*draw(pools()), seed=draw(st.integers(0, 9)))
    for replica in over.replicas:
        put(replica, draw(st.sampled_from(STATES)), draw(st.integers(0, 2)))
    wanted = Wanted(
        MODEL,
        draw(st.sets(st.sampled_from(over.replicas))),
        draw(st.sets(st.sampled_from(["azure", "oci"]))),
        draw(st.sampled_from([None, 4096])),
        draw(st.booleans()),
    )
    return over, wanted


def may_ever(replica: Replica, wanted: Wanted) -> bool:
    context = replica.pool.context_tokens
    return (
        replica not in wanted.avoid
        and replica.pool.supplier not in wanted.avoid_suppliers
        and (wanted.more_context_than is None or (context or 0) > wanted.more_context_than)
        and not (wanted.must_continue and replica.pool.continuation is Continuation.NONE)
    )


def may_now(replica: Replica, wanted: Wanted) -> bool:
    circuit, limit = replica.circuit, replica.pool.max_concurrency
    return (
        may_ever(replica, wanted)
        and circuit.state is not CircuitState.OPEN
        and circuit.throttled_until <= NOW
        and circuit.allows(NOW)
        and (limit is None or replica.in_flight < limit)
    )


@given(situations())
def test_only_what_may_be_chosen_is_chosen_and_the_lowest_order_of_it(situation: tuple[Router, Wanted]) -> None:
    over, wanted = situation
    free = [replica for replica in over.replicas if may_now(replica, wanted)]
    assert over.has(wanted, NOW) is bool(free)
    found = over.choose(wanted, NOW)
    if free:
        assert found in free
        assert isinstance(found, Replica)
        assert found.pool.order == min(replica.pool.order for replica in free)
    elif any(may_ever(replica, wanted) for replica in over.replicas):
        assert isinstance(found, Wait)
        assert found.until >= NOW
    else:
        assert found is None


@given(st.lists(st.floats(0.1, 10.0), min_size=2, max_size=5), st.integers(1, 3), st.integers(0, 99))
def test_shares_converge_to_the_weights(weights: list[float], replicas: int, seed: int) -> None:
    over = router(*(pool(f"p{n}", replicas, weight=weight) for n, weight in enumerate(weights)), seed=seed)
    requests = 500
    counts: Counter[str] = Counter()
    for _ in range(requests):
        found = over.choose(Wanted(MODEL), NOW)
        assert isinstance(found, Replica)
        counts[found.pool.name] += 1
    for number, weight in enumerate(weights):
        # Stride scheduling is off by one turn of each pool at the most.
        assert abs(counts[f"p{number}"] - requests * weight / sum(weights)) <= len(weights) + 1


@given(
    st.lists(st.floats(0.2, 5.0), min_size=2, max_size=4),
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 60)), min_size=1, max_size=5),
)
def test_nobody_catches_up_in_a_flood_after_an_outage(weights: list[float], outages: list[tuple[int, int]]) -> None:
    """After any outages, the next requests are shared as if there had been none."""
    over = router(*(pool(f"p{n}", weight=weight) for n, weight in enumerate(weights)))
    for away, length in outages:
        avoid = {over.replicas[away % len(weights)]}
        for _ in range(length):
            over.choose(Wanted(MODEL, avoid), NOW)
    requests = 200
    counts: Counter[Any] = Counter(over.choose(Wanted(MODEL), NOW) for _ in range(requests))
    for replica, weight in zip(over.replicas, weights, strict=True):
        surplus = counts[replica] - requests * weight / sum(weights)
        assert abs(surplus) <= len(weights) + 1 + max(weights) / min(weights)


@given(st.integers(2, 6), st.integers(0, 99), st.lists(st.integers(0, 9), min_size=6, max_size=6))
def test_the_busiest_of_several_replicas_is_never_picked(count: int, seed: int, loads: list[int]) -> None:
    over = router(pool("p", count), seed=seed)
    for replica, load in zip(over.replicas, loads, strict=False):
        replica.in_flight = load
    over.replicas[0].in_flight = 10
    for _ in range(20):
        assert over.choose(Wanted(MODEL), NOW) is not over.replicas[0]
