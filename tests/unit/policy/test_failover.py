"""What a request does after each way an attempt can fail."""

import pytest

from secondsource.core.fleet import Continuation
from secondsource.core.records import Kind, Outcome
from secondsource.policy.failover import (
    MAY_ASK_AGAIN,
    MOST_ATTEMPTS,
    MOST_FRUITLESS,
    REASK_WITHIN_S,
    Failover,
    Next,
    Verdict,
)
from secondsource.policy.replica import Replica
from secondsource.policy.retry_budget import RetryBudget
from secondsource.policy.routing import Router, Wait
from tests.fleets import MODEL, pool, replica_of, router

SILENT = (Outcome.FIRST_TOKEN_TIMEOUT, Outcome.STALLED, Outcome.GARBLED)
LONG_AFTER = 1e6


def failover(over: Router, budget: RetryBudget | None = None) -> Failover:
    return Failover(over, budget or RetryBudget(0.0), MODEL)


def started(request: Failover, now: float = 0.0) -> Replica:
    first = request.first(now)
    assert isinstance(first, Next)
    assert first.kind is Kind.FIRST
    return first.replica


def retried(request: Failover, now: float = 0.0, *, sent: bool = False, continuable: bool = False) -> Next:
    found = request.choose(now, sent=sent, continuable=continuable)
    assert isinstance(found, Next)
    return found


def test_a_callers_own_error_is_passed_on() -> None:
    request = failover(router(pool("a"), pool("b")))
    assert request.after(started(request), Outcome.CALLER_ERROR, 0.0) is Verdict.PASS_ON


@pytest.mark.parametrize("outcome", [Outcome.DEPARTED, Outcome.TOTAL_TIMEOUT, Outcome.CLIENT_GONE, Outcome.INTERRUPTED])
def test_nothing_follows_what_is_final(outcome: Outcome) -> None:
    request = failover(router(pool("a"), pool("b")))
    assert request.after(started(request), outcome, 0.0) is Verdict.GIVE_UP


@pytest.mark.parametrize("outcome", [*sorted(MAY_ASK_AGAIN), *SILENT])
def test_another_supplier_is_asked_first(outcome: Outcome) -> None:
    over = router(pool("a", 3), pool("b", order=7))
    request = failover(over)
    first = started(request)
    assert first.pool.name == "a"
    assert request.after(first, outcome, 0.0) is Verdict.AGAIN
    found = retried(request)
    assert (found.replica.pool.name, found.kind) == ("b", Kind.RETRY)


@pytest.mark.parametrize("outcome", SILENT)
def test_a_silent_replica_is_not_asked_the_same_thing_again(outcome: Outcome) -> None:
    request = failover(router(pool("a")))
    assert request.after(started(request), outcome, 0.0) is Verdict.AGAIN
    assert request.choose(LONG_AFTER, sent=False, continuable=False) is None


def waits_of(over: Router, count: int = 3) -> list[float]:
    """How long a request waits each time before it asks the only replica again, which is down."""
    request = failover(over)
    now, waits = 0.0, []
    replica = started(request)
    for _ in range(count):
        assert request.after(replica, Outcome.CONNECT_FAILED, now) is Verdict.AGAIN
        found = request.choose(now, sent=False, continuable=False)
        assert isinstance(found, Wait)
        waits.append(found.until - now)
        now = found.until
        replica = retried(request, now).replica
    return waits


def test_the_only_replica_is_asked_again_when_it_was_down_after_waits_whose_bound_doubles() -> None:
    over = router(pool("a"))
    for number, waits in enumerate(zip(*(waits_of(over) for _ in range(200)), strict=True)):
        bound = REASK_WITHIN_S * 2**number
        assert 0 < min(waits) < 0.1 * bound
        assert 0.9 * bound < max(waits) <= bound


def test_requests_that_fail_at_one_moment_do_not_come_back_at_one_moment() -> None:
    over = router(pool("a"))
    first = sorted(waits_of(over, 1)[0] for _ in range(400))
    in_a_tenth = [sum(begin <= wait < begin + 0.1 * REASK_WITHIN_S for wait in first) for begin in first]
    assert max(in_a_tenth) < 0.2 * len(first)


def test_the_waits_come_from_the_routers_seed() -> None:
    assert waits_of(router(pool("a"), seed=7)) == waits_of(router(pool("a"), seed=7))
    assert waits_of(router(pool("a"), seed=7)) != waits_of(router(pool("a"), seed=8))


@pytest.mark.parametrize("outcome", sorted(MAY_ASK_AGAIN - {Outcome.CONNECT_FAILED}))
def test_a_replica_that_answered_is_asked_twice_at_the_most(outcome: Outcome) -> None:
    request = failover(router(pool("a")))
    assert request.after(started(request), outcome, 0.0) is Verdict.AGAIN
    found = request.choose(0.0, sent=False, continuable=False)
    assert isinstance(found, Wait)
    again = retried(request, found.until).replica
    assert request.after(again, outcome, found.until) is Verdict.AGAIN
    assert request.choose(LONG_AFTER, sent=False, continuable=False) is None


def test_a_request_that_made_two_replicas_hang_up_goes_to_neither_again() -> None:
    over = router(pool("a"), pool("b"))
    request = failover(over)
    assert request.after(started(request), Outcome.RESET, 0.0) is Verdict.AGAIN
    second = retried(request).replica
    assert request.after(second, Outcome.RESET, 0.0) is Verdict.AGAIN
    later = retried(request, LONG_AFTER).replica
    assert later is not second
    request.after(later, Outcome.RESET, LONG_AFTER)
    assert request.choose(2 * LONG_AFTER, sent=False, continuable=False) is None


def test_attempts_are_bounded_and_the_budget_is_drawn_on() -> None:
    over = router(*(pool(name) for name in "abcdefghijkl"))
    request = failover(over)
    replica = started(request)
    for _ in range(MOST_FRUITLESS - 1):
        assert request.after(replica, Outcome.RESET, 0.0) is Verdict.AGAIN
        replica = retried(request).replica
    assert request.after(replica, Outcome.RESET, 0.0) is Verdict.GIVE_UP
    assert request.attempts == MOST_FRUITLESS


def test_the_first_failover_is_free_and_the_second_is_not() -> None:
    budget = RetryBudget(0.0)
    while budget.withdraw(0.0):
        pass
    request = failover(router(pool("a"), pool("b"), pool("c")), budget)
    assert request.after(started(request), Outcome.RESET, 0.0) is Verdict.AGAIN
    assert request.after(retried(request).replica, Outcome.RESET, 0.0) is Verdict.GIVE_UP


def test_an_overflow_goes_to_a_larger_context_and_not_to_the_same_pool() -> None:
    over = router(pool("small", 3, context_tokens=4096), pool("large", context_tokens=32768, order=9))
    request = failover(over)
    first = started(request)
    assert request.after(first, Outcome.CONTEXT_OVERFLOW, 0.0) is Verdict.AGAIN
    assert retried(request).replica.pool.name == "large"
    assert request.after(replica_of(over, "large"), Outcome.CONTEXT_OVERFLOW, 0.0) is Verdict.PASS_ON


@pytest.mark.parametrize("others", [4096, 2048, None])
def test_an_overflow_is_passed_on_where_nothing_is_larger(others: int | None) -> None:
    over = router(pool("a", context_tokens=4096), pool("b", context_tokens=others, order=1))
    request = failover(over)
    assert request.after(started(request), Outcome.CONTEXT_OVERFLOW, 0.0) is Verdict.PASS_ON


def test_an_overflow_where_the_limit_is_unknown_is_passed_on() -> None:
    over = router(pool("a"), pool("b", context_tokens=4096, order=1))
    request = failover(over)
    assert request.after(started(request), Outcome.CONTEXT_OVERFLOW, 0.0) is Verdict.PASS_ON


def test_what_one_engine_does_not_offer_is_asked_of_another_pool_and_passed_on_where_there_is_none() -> None:
    request = failover(router(pool("a", 2), pool("b", order=1)))
    first = started(request)
    assert request.after(first, Outcome.NOT_OFFERED, 0.0) is Verdict.AGAIN
    second = retried(request).replica
    assert second.pool.name == "b"
    assert request.after(second, Outcome.NOT_OFFERED, 0.0) is Verdict.PASS_ON


def test_a_cut_answer_goes_where_it_can_be_continued() -> None:
    over = router(pool("a"), pool("plain", continuation=Continuation.NONE, order=1), pool("able", order=2))
    request = failover(over)
    assert request.after(started(request), Outcome.CUT, 0.0) is Verdict.AGAIN
    found = retried(request, sent=True, continuable=True)
    assert (found.replica.pool.name, found.kind) == ("able", Kind.CONTINUATION)


def test_a_cut_answer_is_made_afresh_where_nobody_can_continue_it() -> None:
    over = router(pool("a"), pool("plain", continuation=Continuation.NONE, order=1))
    request = failover(over)
    request.after(started(request), Outcome.CUT, 0.0)
    assert retried(request, sent=True, continuable=True).kind is Kind.REMAKE


def test_an_answer_that_must_not_be_continued_is_made_afresh() -> None:
    request = failover(router(pool("a"), pool("b")))
    request.after(started(request), Outcome.CUT, 0.0)
    assert retried(request, sent=True, continuable=False).kind is Kind.REMAKE


def test_a_refused_prefill_may_be_asked_again_at_once_in_a_simpler_way() -> None:
    over = router(pool("a"), pool("b", order=1))
    request = failover(over)
    request.after(started(request), Outcome.CUT, 0.0)
    refused = retried(request, sent=True, continuable=True).replica
    assert refused.pool.name == "b"
    assert request.after(refused, Outcome.PREFILL_REFUSED, 0.0) is Verdict.AGAIN
    refused.state.continuation_refused(exact=False)
    found = retried(request, sent=True, continuable=True)
    assert (found.replica, found.kind) == (refused, Kind.REMAKE)


def test_whether_another_could_go_on() -> None:
    over = router(pool("a"), pool("b", order=1))
    request = failover(over)
    first = started(request)
    assert request.has_other(first, 0.0)
    replica_of(over, "b").circuit.failed(Outcome.CONNECT_FAILED, 0.0)
    assert not request.has_other(first, 0.0)
    assert request.soonest(0.0) == 0.0


def test_an_answer_may_be_cut_as_often_as_it_goes_on_though_not_for_ever() -> None:
    request = Failover(router(pool("a"), pool("b", supplier="t")), RetryBudget(0.0), "chat")
    replica, now = started(request), 0.0
    for _ in range(MOST_ATTEMPTS - 1):
        assert request.after(replica, Outcome.CUT, now, progressed=True) is Verdict.AGAIN
        now += LONG_AFTER
        found = request.choose(now, sent=True, continuable=False)
        assert isinstance(found, Next)
        assert found.replica is not replica
        replica = found.replica
    assert request.after(replica, Outcome.CUT, now, progressed=True) is Verdict.GIVE_UP
