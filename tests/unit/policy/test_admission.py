"""Who is let in, who waits and who is sent away."""

import pytest

from secondsource.core.fleet import Lane
from secondsource.policy.admission import Admission, Reason, Refused, Request, Room
from secondsource.policy.fair_queue import State, Ticket
from secondsource.policy.first_token import FirstToken, PredictionError

LANES = (Lane(name="paid", ttft_s=2.0), Lane(name="free", priority=10, ttft_s=10.0, max_waiting=20))
FULL, ONE = Room(0, 4), Room(1, 4)


def admission(**changes: int) -> Admission:
    return Admission(LANES, {}, 4, 0.0, **changes)


def ask(
    lane: str = "free", tenant: str = "acme", work: float = 1.0, fingerprint: int = 0, first_token_s: float = 0.1
) -> Request:
    return Request(tenant, lane, work, first_token_s, fingerprint)


def let_in(over: Admission, request: Request, room: Room = FULL, now: float = 0.0) -> Ticket:
    decision = over.arrive(request, room, now)
    assert isinstance(decision, Ticket)
    return decision


def refused(over: Admission, request: Request, room: Room = FULL, now: float = 0.0) -> Refused:
    decision = over.arrive(request, room, now)
    assert isinstance(decision, Refused)
    return decision


def test_room_is_taken_at_once() -> None:
    over = admission()
    assert let_in(over, ask(), ONE).state is State.RUNNING
    assert over.waiting == 0


def test_paid_goes_before_free_that_came_first() -> None:
    over = admission()
    free, paid = let_in(over, ask()), let_in(over, ask("paid"))
    assert over.take(ONE, 0.1) is paid
    assert over.take(ONE, 0.2) is free
    assert over.take(ONE, 0.3) is None


def test_who_comes_does_not_overtake_who_waits() -> None:
    over = admission()
    first = let_in(over, ask())
    second = let_in(over, ask(), ONE)
    assert second.state is State.WAITING
    assert over.take(ONE, 0.1) is first


def test_a_request_that_cannot_be_in_time_is_sent_away_and_its_place_kept() -> None:
    over = admission()
    for _ in range(10):
        let_in(over, ask(work=4.0))  # a second of four slots each
    late = refused(over, ask(work=4.0, fingerprint=5))
    assert late.reason is Reason.TTFT
    assert late.retry_after_s == pytest.approx(10.0)
    early = refused(over, ask(work=4.0, fingerprint=5), now=4.0)
    assert early.reason is Reason.EARLY
    assert early.retry_after_s == pytest.approx(6.0)
    assert let_in(over, ask(work=4.0, fingerprint=5), now=10.0).state is State.WAITING


def test_who_comes_back_when_told_goes_before_its_tenants_others() -> None:
    over = admission()
    for _ in range(10):
        let_in(over, ask(work=4.0))
    told = refused(over, ask(work=4.0, fingerprint=5))
    for _ in range(10):
        over.take(ONE, 9.0)
    waiting = let_in(over, ask(work=0.1), now=9.5)
    back = let_in(over, ask(work=4.0, fingerprint=5), now=told.retry_after_s)
    assert over.take(ONE, 12.0) is back
    assert over.take(ONE, 12.0) is waiting


def test_one_whose_client_left_is_never_taken() -> None:
    over = admission()
    gone, stays = let_in(over, ask()), let_in(over, ask())
    over.forget(gone)
    assert over.waiting == 1
    assert over.take(ONE, 0.1) is stays
    over.forget(stays)
    assert over.waiting == 0


def test_time_that_runs_out_while_waiting_is_said_at_once() -> None:
    over = admission()
    ticket = let_in(over, ask("paid"))
    over.tick(1.8)
    assert over.evicted == []
    over.tick(1.95)  # 0.1 s to the first token would be too late
    assert [(one.reason, one.ticket) for one in over.evicted] == [(Reason.EVICTED_TTFT, ticket)]
    assert over.waiting == 0


def test_free_gives_way_where_all_that_may_wait_do() -> None:
    over = admission(most_waiting=3)
    free = [let_in(over, ask(tenant=name, work=0.1)) for name in ("a", "b", "b")]
    paid = let_in(over, ask("paid"))
    assert paid.state is State.WAITING
    assert [(one.reason, one.ticket) for one in over.evicted] == [(Reason.EVICTED_FOR_BETTER, free[2])]
    assert refused(over, ask(work=0.1)).reason is Reason.QUEUE_FULL
    assert over.waiting == 3


def test_a_lanes_queue_is_bounded() -> None:
    over = admission()
    for _ in range(20):
        let_in(over, ask(work=0.01))
    assert refused(over, ask(work=0.01)).reason is Reason.QUEUE_FULL
    assert over.waiting_in("free") == 20
    assert let_in(over, ask("paid")).state is State.WAITING


def test_free_leaves_headroom_while_paid_has_demand() -> None:
    over = Admission(LANES, {}, 64, 0.0)
    for step in range(200):
        let_in(over, ask("paid", work=3.2), Room(64, 64), step * 0.1)
    assert let_in(over, ask(), Room(2, 64), 20.0).state is State.WAITING
    assert let_in(over, ask("paid"), Room(1, 64), 20.0).state is State.RUNNING
    assert over.take(Room(2, 64), 20.0) is None
    assert over.take(Room(9, 64), 20.0) is not None


def test_no_more_slots_are_kept_than_may_be_lost() -> None:
    over = Admission(LANES, {}, 64, 0.0)
    for step in range(200):
        let_in(over, ask("paid", work=3.2), Room(64, 64), step * 0.1)
    over.lets_idle(0.05)  # 3 slots, and one that paid has in use
    assert let_in(over, ask(), Room(4, 64), 20.0).state is State.WAITING
    assert over.take(Room(4, 64), 20.0) is None
    assert over.take(Room(5, 64), 20.0) is not None
    over.lets_idle(None)
    let_in(over, ask(), Room(5, 64), 20.0)
    assert over.take(Room(5, 64), 20.0) is None


def test_slots_that_cost_nothing_are_kept_while_paid_asks_for_anything() -> None:
    over = Admission(LANES, {}, 16, 0.0)
    over.lets_idle(1.0, 11)
    assert let_in(over, ask(), Room(1, 16), 0.0).state is State.RUNNING
    for step in range(200):
        let_in(over, ask("paid", work=0.8), Room(16, 16), step * 0.1)
    let_in(over, ask(), Room(11, 16), 20.0)
    assert over.take(Room(11, 16), 20.0) is None
    assert over.take(Room(12, 16), 20.0) is not None


def test_late_first_tokens_keep_no_more_than_may_be_lost() -> None:
    over = Admission(LANES, {}, 16, 0.0)
    for step in range(200):
        paid = let_in(over, ask("paid", work=0.8), Room(16, 16), step * 0.1)
        over.began(paid, 0.1, 0.1, 16, step * 0.1)
    for step in range(20):
        paid = let_in(over, ask("paid", work=0.8), Room(16, 16), 20.0 + 3.0 * step)
        over.began(paid, 1.9, 0.1, 16, 20.0 + 3.0 * step)
    let_in(over, ask(), Room(10, 16), 80.0)
    assert over.take(Room(10, 16), 80.0) is None
    over.lets_idle(0.05)
    assert over.take(Room(2, 16), 80.0) is not None


def test_a_long_answer_is_not_sent_away_for_its_own_length() -> None:
    over = admission()
    let_in(over, ask(work=36.0))
    assert let_in(over, ask(work=100.0)).predicted_s == pytest.approx(9.1)
    assert refused(over, ask(work=1.0, tenant="acme")).reason is Reason.TTFT


def test_a_tenant_waits_for_what_it_has_had_before_its_turn() -> None:
    over = admission()
    let_in(over, ask(tenant="acme", work=8.0))
    let_in(over, ask(tenant="globex", work=8.0))
    let_in(over, ask(tenant="globex", work=8.0))
    assert over.take(ONE, 0.0) is not None
    waiting = let_in(over, ask(tenant="acme"))
    assert waiting.predicted_s == pytest.approx(8.0 / 0.5 / over.rate.per_s + 0.1)  # half of the service is acme's


def test_what_drains_is_what_was_measured_however_many_slots_there_are() -> None:
    over = Admission(LANES, {}, 40, 0.0)
    for second in range(100):
        let_in(over, ask(tenant="acme", work=4.0), Room(0, 40), float(second))
        if second:
            assert over.take(Room(40, 40), float(second)) is not None
    assert over.rate.per_s == pytest.approx(4.0, rel=0.1)


def test_predictions_learn_and_are_judged() -> None:
    model, error = FirstToken(1000.0, 0.1), PredictionError()
    assert model.predicted_s(500, 100, 200) == pytest.approx(0.7)
    for _ in range(200):
        predicted = model.predicted_s(900)
        model.observed(predicted, 2.0)
        error.observed(predicted, 2.0)
    assert model.predicted_s(900) == pytest.approx(2.0, rel=0.01)
    assert sum(error.counts) == error.observations == 200
    assert error.within(0.9, 1.1) > 0.7
    assert abs(error.bias) < 0.1


def test_the_best_lane_waits_for_a_better_slot_and_others_do_not_pass_it() -> None:
    over = admission()
    assert let_in(over, ask("paid"), Room(2, 4, better_soon=True), 0.0).state is State.WAITING
    assert let_in(over, ask(), Room(2, 4), 0.0).state is State.WAITING
    assert over.take(Room(2, 4, better_soon=True), 0.1) is None
    taken = over.take(Room(2, 4), 0.2)
    assert taken is not None
    assert taken.lane == "paid"


def test_a_replica_with_nothing_to_do_is_given_what_waits_whatever_is_kept_for_better_lanes() -> None:
    over = admission()
    over.lets_idle(1.0, 3)
    let_in(over, ask("paid"), Room(4, 4), 0.0)
    assert let_in(over, ask(), Room(3, 4), 0.1).state is State.WAITING
    assert over.take(Room(3, 4, reads_s=0.0, idle=True), 0.2) is None  # another worker's prompt is read there
    assert over.take(Room(3, 4, idle=True), 0.3) is not None


def test_a_worse_lane_is_not_read_before_the_next_of_a_better_one_unless_nobody_wants_that() -> None:
    over = admission()
    let_in(over, ask(), FULL, 0.0)
    assert over.take(Room(4, 4, reads_s=0.0), 0.1) is not None
    let_in(over, ask("paid"), Room(3, 4), 0.1)
    assert let_in(over, ask(), Room(3, 4, reads_s=0.0), 0.2).state is State.WAITING
    assert over.take(Room(3, 4, reads_s=0.0), 0.3) is None
    assert over.take(Room(3, 4), 0.3) is not None


def test_a_worse_lane_that_nobody_is_sent_away_from_is_let_through() -> None:
    over = admission()
    let_in(over, ask("paid"), Room(4, 4), 0.0)
    assert let_in(over, ask(), Room(3, 4, reads_s=0.0), 0.1).state is State.RUNNING
    over.forget(let_in(over, ask(), FULL, 0.2))  # from now on, for ten seconds
    let_in(over, ask("paid"), Room(3, 4), 9.0)
    assert let_in(over, ask(), Room(3, 4, reads_s=0.0), 9.9).state is State.WAITING
    assert over.take(Room(3, 4, reads_s=0.0), 10.1) is None
    assert over.take(Room(3, 4, reads_s=0.0), 10.3) is not None


def test_who_is_read_soon_passes_who_is_not_where_only_that_leaves_the_best_lane_what_it_needs() -> None:
    over = admission()
    let_in(over, ask("paid"), Room(3, 4), 0.0)
    over.forget(let_in(over, ask(), FULL, 0.0))  # somebody found no slot
    long = let_in(over, ask(tenant="acme", first_token_s=0.6), Room(3, 4, reads_s=0.5), 0.1)
    behind = let_in(over, ask(tenant="acme"), FULL, 0.1)
    other = let_in(over, ask(tenant="globex"), FULL, 0.2)
    assert long.state is State.WAITING, "it takes too long to read"
    assert over.take(Room(3, 4, reads_s=0.5), 0.3) is other
    assert over.take(Room(3, 4, reads_s=0.5), 0.4) is None, "a tenant's requests stay in their order"
    assert [over.take(Room(3, 4), 0.5), over.take(Room(2, 4), 0.6)] == [long, behind]
