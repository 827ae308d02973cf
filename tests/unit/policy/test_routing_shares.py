"""Where a request goes under shares of the spend, a plan's weights and what is cached where."""

from random import Random
from typing import Any

import pytest

from secondsource.core.fleet import Cap, Fleet, Supplier
from secondsource.policy.replica import Replica
from secondsource.policy.routing import HARD_CAP_WAIT_S, Need, Router, Wait, Wanted
from tests.fleets import MODEL, pool

CHEAP, DEAR = {"order": 0}, {"order": 1}


def capped(cap: Cap = Cap.SOFT, dear: bool = True, **changes: Any) -> Router:
    pools = (pool("azure", 2, **CHEAP, **changes), *((pool("oci", **DEAR),) if dear else ()))
    suppliers = (Supplier(name="azure", max_share=0.6, cap=cap), Supplier(name="oci"))
    return Router(Fleet(suppliers=suppliers, pools=pools), Random(0))


def send(over: Router, now: float, need: Need) -> Replica | Wait | None:
    found = over.choose(Wanted(MODEL, need=need), now)
    if isinstance(found, Replica):
        over.shares.book(found.pool.supplier, need.nano_usd, now)
    return found


def test_a_cap_sends_to_a_standby_pool_what_the_cheap_supplier_may_not_have() -> None:
    over, got = capped(), {"azure": 0, "oci": 0}
    for step in range(1000):
        found = send(over, 1000.0 + step, Need(1.0, 10))
        assert isinstance(found, Replica)
        got[found.pool.supplier] += 1
    assert 0.59 <= got["azure"] / 1000 <= 0.605
    assert not over.breaches


def test_serving_wins_over_a_soft_cap_and_is_counted() -> None:
    over = capped(dear=False)
    for step in range(10):
        assert isinstance(send(over, 1000.0 + step, Need(1.0, 10)), Replica)
    assert over.breaches["azure"] == 10
    assert over.slots(MODEL, 1010.0) > 0


def test_a_hard_cap_wins_over_serving() -> None:
    over = capped(Cap.HARD, dear=False, max_concurrency=4)
    assert over.slots(MODEL, 1000.0) == 0
    assert send(over, 1000.0, Need(1.0, 10)) == Wait(1000.0 + HARD_CAP_WAIT_S)


def test_weights_hold_for_work_and_not_for_requests() -> None:
    pools = (pool("a", weight=3.0), pool("b", weight=1.0))
    over = Router(Fleet(suppliers=(Supplier(name="a"), Supplier(name="b")), pools=pools), Random(0))
    random, work = Random(1), {"a": 0.0, "b": 0.0}
    for step in range(2000):
        need = Need(random.lognormvariate(0.0, 1.0))
        found = send(over, float(step), need)
        assert isinstance(found, Replica)
        work[found.pool.name] += need.work
    assert work["a"] / (work["a"] + work["b"]) == pytest.approx(0.75, abs=0.01)


def test_a_conversation_stays_where_it_is_cached_and_the_weights_hold() -> None:
    pools = (pool("a", 3, weight=3.0), pool("b", 1, weight=1.0))
    over = Router(Fleet(suppliers=(Supplier(name="a"), Supplier(name="b")), pools=pools), Random(0))
    random, homes, stayed, turns = Random(2), {}, 0, 0
    work = {"a": 0.0, "b": 0.0}
    for step in range(4000):
        conversation = random.randrange(400)
        found = send(over, step * 0.05, Need(1.0, 1, (conversation + 1,)))
        assert isinstance(found, Replica)
        work[found.pool.name] += 1.0
        if conversation in homes:
            turns += 1
            stayed += homes[conversation] is found
        homes[conversation] = found
    assert stayed >= 0.8 * turns, f"{stayed} of {turns} turns found their cache"
    assert work["a"] / 4000 == pytest.approx(0.75, abs=0.02)


def test_a_replica_without_room_is_nobodys_home() -> None:
    over = Router(Fleet(suppliers=(Supplier(name="a"),), pools=(pool("a", 2, max_concurrency=1),)), Random(0))
    first = send(over, 0.0, Need(1.0, 1, (7,)))
    assert isinstance(first, Replica)
    first.in_flight = 1
    second = send(over, 1.0, Need(1.0, 1, (7,)))
    assert isinstance(second, Replica)
    assert second is not first


def test_a_429_lowers_what_a_replica_is_taken_to_bear() -> None:
    over = Router(Fleet(suppliers=(Supplier(name="a"),), pools=(pool("a", max_concurrency=10),)), Random(0))
    [replica] = over.replicas
    assert over.slots(MODEL, 0.0) == 10
    replica.throttled(0.0)
    assert over.slots(MODEL, 0.0) == replica.limit == 7
