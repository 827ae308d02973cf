"""The router filters, shares by weight among pools of the lowest order, picks by what is to be read, or what runs."""

from collections import Counter
from math import inf

import pytest

from secondsource.core.fleet import Continuation
from secondsource.core.records import Outcome
from secondsource.policy.reading import Spared
from secondsource.policy.replica import Replica
from secondsource.policy.routing import ENOUGH, Need, Router, Wait, Wanted
from tests.fleets import MODEL, pool, replica_of, router

CHAT = Wanted(MODEL)


def chosen(over: Router, wanted: Wanted = CHAT, now: float = 0.0) -> str:
    found = over.choose(wanted, now)
    assert isinstance(found, Replica)
    return found.pool.name


def take_down(over: Router, name: str, now: float = 0.0) -> None:
    for replica in over.replicas:
        if replica.pool.name == name:
            replica.circuit.failed(Outcome.CONNECT_FAILED, now)


def test_a_lower_order_is_used_first_and_returned_to() -> None:
    over = router(pool("spare", order=1), pool("main", order=0))
    assert {chosen(over) for _ in range(10)} == {"main"}
    take_down(over, "main")
    assert {chosen(over) for _ in range(10)} == {"spare"}
    main = replica_of(over, "main")
    main.circuit.probed(alive=True, now=main.circuit.retry_at)
    assert chosen(over, now=main.circuit.retry_at) == "main"


def test_a_full_replica_overflows_to_the_next_order() -> None:
    over = router(pool("main", max_concurrency=2), pool("spare", order=1))
    replica_of(over, "main").in_flight = 2
    assert chosen(over) == "spare"
    assert not replica_of(over, "main").has_room()


def test_it_waits_for_what_will_be_free_and_gives_up_on_what_never_fits() -> None:
    over = router(pool("main", max_concurrency=1))
    main = replica_of(over, "main")
    main.in_flight = 1
    assert over.choose(CHAT, 5.0) == Wait(5.0)
    main.circuit.throttled(10.0, 5.0)
    assert over.choose(CHAT, 5.0) == Wait(15.0)
    assert over.choose(Wanted(MODEL, {main}), 5.0) is None
    assert over.choose(Wanted(MODEL, avoid_suppliers={"main"}), 5.0) is None


def test_the_earliest_of_several_waits() -> None:
    over = router(pool("a"), pool("b"), pool("c", order=3))
    for name, seconds in (("a", 9.0), ("b", 3.0), ("c", 6.0)):
        replica_of(over, name).circuit.throttled(seconds, 0.0)
    assert over.choose(CHAT, 0.0) == Wait(3.0)
    assert over.soonest(MODEL, 0.0) == 3.0


@pytest.mark.parametrize(("context", "fits"), [(None, False), (4096, False), (4097, True)])
def test_only_a_known_larger_context_helps_after_an_overflow(context: int | None, fits: bool) -> None:
    over = router(pool("main", context_tokens=context))
    wanted = Wanted(MODEL, more_context_than=4096)
    assert isinstance(over.choose(wanted, 0.0), Replica) is fits
    assert over.has(wanted, 0.0) is fits
    assert over.has_larger(MODEL, 4096) is fits


def test_a_pool_that_cannot_continue_is_no_use_to_a_cut_answer() -> None:
    over = router(pool("plain", continuation=Continuation.NONE), pool("able", order=5))
    wanted = Wanted(MODEL, must_continue=True)
    assert chosen(over, wanted) == "able"
    replica_of(over, "able").state.continuation_refused(exact=False)
    assert over.choose(wanted, 0.0) is None


def test_a_refusal_to_continue_is_remembered_by_the_way_that_was_tried() -> None:
    state = router(pool("main", continuation=Continuation.TOKENS)).pools[0]
    state.continuation_refused(exact=True)
    assert state.continuation is Continuation.PREFILL
    state.continuation_refused(exact=True)  # a second stream, which had asked before the first was refused
    assert state.continuation is Continuation.PREFILL
    state.continuation_refused(exact=False)
    assert state.continuation is Continuation.NONE


def test_weights_are_shares() -> None:
    over = router(pool("a", weight=3.0), pool("b", weight=1.0), pool("c", weight=0.5))
    counts = Counter(chosen(over) for _ in range(900))
    assert counts["a"] == pytest.approx(600, abs=2)
    assert counts["b"] == pytest.approx(200, abs=2)
    assert counts["c"] == pytest.approx(100, abs=2)


def test_a_pool_that_was_away_does_not_catch_up_in_a_flood() -> None:
    over = router(pool("a"), pool("b"))
    take_down(over, "b")
    for _ in range(1000):
        assert chosen(over) == "a"
    returned = replica_of(over, "b").circuit
    returned.probed(alive=True, now=returned.retry_at)
    returned.succeeded()
    counts = Counter(chosen(over) for _ in range(100))
    assert counts["b"] <= 51


def test_the_less_busy_is_picked() -> None:
    over = router(pool("main", 2))
    idle, busy = over.replicas
    busy.in_flight = 5
    assert {over.choose(CHAT, 0.0) for _ in range(20)} == {idle}


def test_every_replica_of_a_pool_gets_some() -> None:
    over = router(pool("main", 5))
    assert {over.choose(CHAT, 0.0) for _ in range(200)} == set(over.replicas)


def test_models_are_kept_apart() -> None:
    over = router(pool("main"), pool("other", model="embed"))
    assert {chosen(over) for _ in range(10)} == {"main"}
    assert over.serves("embed")
    assert not over.serves("no-such-model")


def test_a_model_is_ready_while_one_replica_is_not_known_to_be_down() -> None:
    over = router(pool("a"), pool("b", order=1))
    take_down(over, "a")
    assert over.ready(MODEL)
    take_down(over, "b")
    assert not over.ready(MODEL)


def test_the_best_lane_goes_where_least_is_to_be_read_and_others_where_fewest_run() -> None:
    over = router(pool("a", 4), seed=3)
    for replica, unread, in_flight in zip(over.replicas, (500, 0, 900, 200), (3, 4, 2, 3), strict=True):
        replica.sent(unread, 0.0)
        replica.in_flight = in_flight
    urgent = {over.choose(CHAT, 0.0) for _ in range(50)}
    assert urgent == {over.replicas[1]}
    assert {over.choose(Wanted(MODEL, need=Need(urgent=False)), 0.0) for _ in range(50)} == {over.replicas[2]}


def test_a_replica_that_is_much_busier_is_no_better_for_having_read_all() -> None:
    over = router(pool("a", 2))
    idle, busy = over.replicas
    idle.sent(100, 0.0)
    idle.in_flight, busy.in_flight = 0, 5
    assert {over.choose(CHAT, 0.0) for _ in range(20)} == {idle}
    assert idle.has_read(100, 0.1) == 0
    assert idle.reading.unread == 0


def test_a_new_conversation_of_the_best_lane_makes_its_home_where_least_is_to_be_read() -> None:
    over = router(pool("a", 4))
    for replica in over.replicas[1:]:
        replica.sent(5000, 0.0)
        replica.in_flight = 0
    homes = {over.choose(Wanted(MODEL, need=Need(blocks=(number << 40,))), 0.0) for number in range(1, 20)}
    assert homes == {over.replicas[0]}


def test_urgent_requests_wait_for_a_slot_where_nothing_is_to_be_read() -> None:
    over = router(pool("reads", max_concurrency=4), pool("full", max_concurrency=4))
    reads, full = over.replicas
    for _ in range(4):
        full.sent(0, 0.0)
    reads.sent(100_000, 0.0)
    assert over.better_soon(MODEL, 0.0)
    assert over.may_read_s(MODEL, Spared(0.1, 0.0), 0.0) == 0.0
    assert over.may_read_s(MODEL, Spared(10.0, 0.0), 0.0) == inf
    take_down(over, "full")
    assert not over.better_soon(MODEL, 0.0)
    assert not over.better_soon("unknown", 0.0)
    take_down(over, "reads")
    assert over.may_read_s(MODEL, Spared(0.1, 0.0), 0.0) == inf


def test_a_worse_lane_is_not_sent_where_a_prompt_is_read() -> None:
    over = router(pool("a", 2, max_concurrency=8))
    reads, busier = over.replicas
    reads.sent(100_000, 0.0)
    for _ in range(3):
        busier.sent(0, 0.0)
    free = Need(urgent=False, calm_s=0.1)
    assert {over.choose(Wanted(MODEL, need=free), 0.0) for _ in range(20)} == {busier}
    assert {over.choose(Wanted(MODEL, need=free._replace(calm_s=100.0)), 0.0) for _ in range(20)} == {reads}


def test_a_replica_without_an_attempt_is_idle_where_it_bears_several() -> None:
    over = router(pool("a", max_concurrency=4), pool("single", max_concurrency=1))
    a, _ = over.replicas
    assert over.any_idle(MODEL, 0.0)
    a.sent(0, 0.0)
    assert not over.any_idle(MODEL, 0.0)  # where one attempt fills it, a free slot is what others may need
    assert not over.any_idle("unknown", 0.0)
    a.in_flight = 0
    take_down(over, "a")
    assert not over.any_idle(MODEL, 0.0)


def test_what_a_slot_is_worth_is_known_where_a_replicas_slots_are() -> None:
    over = router(pool("a", max_concurrency=4), pool("b"))
    a, b = over.replicas
    assert over.most_kept(MODEL, 0.05) is None
    for used in (1, 4):
        a.answered(41, 0.4 * used, used)
        b.answered(41, 0.4 * used, used)
    assert over.most_kept(MODEL, 0.05) == pytest.approx(1.0)


def test_slots_beyond_enough_are_those_that_no_replica_needs_to_be_busy() -> None:
    over = router(pool("a", max_concurrency=8), pool("b", max_concurrency=2), pool("c"))
    assert over.beyond_enough(MODEL) == int(8 - ENOUGH)
    assert over.beyond_enough("unknown") == 0


def test_a_slot_that_another_worker_takes_in_the_same_moment_is_waited_for() -> None:
    class Faster:
        """Another worker, which says that it takes the last slot just before this one does."""

        taken = 0

        def write(self, count: int) -> None:
            self.taken = 1

        def others(self) -> int:
            return self.taken

    over = router(pool("main", max_concurrency=1))
    over.replicas[0].share(Faster())
    assert over.choose(CHAT, 7.0) == Wait(7.0)
