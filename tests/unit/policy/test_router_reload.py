"""Another fleet under a router that runs: what stays is as it was, what is new starts level, what went goes."""

import time
from collections import Counter

from secondsource.core.fleet import Continuation
from secondsource.core.records import Outcome
from secondsource.policy.circuit import CircuitState
from secondsource.policy.replica import Replica
from secondsource.policy.routing import Router, Wanted
from tests.fleets import MODEL, fleet, pool, replica_of, router

WANTED = Wanted(MODEL)


def chosen(over: Router, times: int) -> Counter[str]:
    return Counter(found.pool.name for _ in range(times) if isinstance(found := over.choose(WANTED, 0.0), Replica))


def test_what_stays_keeps_what_is_known_of_it() -> None:
    over = router(pool("a"), pool("b"))
    kept = replica_of(over, "a")
    kept.circuit.failed(Outcome.CONNECT_FAILED, time.monotonic())
    kept.in_flight, kept.engine = 3, "vllm"
    kept.state.continuation_refused(exact=False)
    over.reload(fleet(pool("b"), pool("a", 2, weight=5.0, max_concurrency=7)))
    again, fresh = (replica for replica in over.replicas if replica.pool.name == "a")
    assert again is kept
    assert (again.circuit.state, again.in_flight, again.engine) == (CircuitState.OPEN, 3, "vllm")
    assert (again.pool.weight, again.limit, again.state.continuation) == (5.0, 7, Continuation.NONE)
    assert (fresh.circuit.state, fresh.in_flight, fresh.limit) == (CircuitState.CLOSED, 0, 7)


def test_a_pool_of_another_model_or_supplier_is_a_new_one() -> None:
    over = router(pool("a"))
    before = replica_of(over, "a")
    over.reload(fleet(pool("a", supplier="other")))
    assert replica_of(over, "a") is not before


def test_a_removed_pool_is_chosen_no_more_and_its_model_is_unknown() -> None:
    over = router(pool("a"), pool("b", model="other"))
    over.reload(fleet(pool("a")))
    assert chosen(over, 20) == {"a": 20}
    assert not over.serves("other")
    assert over.choose(Wanted("other"), 0.0) is None  # for a request that runs
    assert not over.has(Wanted("other"), 0.0)


def test_a_new_pool_starts_level_and_new_weights_hold() -> None:
    over = router(pool("a"), pool("b"))
    chosen(over, 1000)
    over.reload(fleet(pool("a", weight=2.0), pool("b"), pool("c")))
    counts = chosen(over, 400)
    assert (counts["a"], counts["b"], counts["c"]) == (200, 100, 100)


def test_a_supplier_that_the_operator_unplugged_stays_so() -> None:
    over = router(pool("a"), pool("b"))
    over.plug("a", plugged=False)
    over.reload(fleet(pool("a"), pool("b"), pool("a2", supplier="a")))
    assert over.unplugged == {"a"}
    assert chosen(over, 10) == {"b": 10}
