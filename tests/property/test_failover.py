"""However attempts fail, a request ends: within its attempts and its budget, and without asking the silent again."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from secondsource.core.fleet import Continuation
from secondsource.core.records import Kind, Outcome
from secondsource.policy.failover import MOST_ATTEMPTS, Failover, Next, Verdict
from secondsource.policy.replica import Replica
from secondsource.policy.retry_budget import FLOOR_PER_S, LONGEST_SAVING_S, RetryBudget
from secondsource.policy.routing import Router, Wait
from tests.fleets import MODEL, pool, router

FAILURES = tuple(outcome for outcome in Outcome if outcome is not Outcome.OK)
SILENT = frozenset({Outcome.FIRST_TOKEN_TIMEOUT, Outcome.STALLED, Outcome.GARBLED})
MOST_STEPS = 200


@st.composite
def routers(draw: st.DrawFn) -> Router:
    return router(
        *(
            pool(
                f"pool{number}",
                draw(st.integers(1, 3)),
                supplier=draw(st.sampled_from(["azure", "oci", "gcp"])),
                order=draw(st.integers(0, 2)),
                continuation=draw(st.sampled_from(Continuation)),
                context_tokens=draw(st.sampled_from([None, 4096, 32768])),
            )
            for number in range(draw(st.integers(1, 4)))
        ),
        seed=draw(st.integers(0, 9)),
    )


class Request:
    """A request driven as the gateway drives it: every attempt fails as it is told."""

    def __init__(self, over: Router, budget: RetryBudget, outcomes: list[Outcome]) -> None:
        self.failover = Failover(over, budget, MODEL)
        self.outcomes = outcomes
        self.now = 0.0
        self.sent = False
        self.asked: list[tuple[Replica, Kind, Outcome]] = []
        self.verdict: Verdict | None = None

    def run(self, *, continuable: bool) -> None:
        found = self.failover.first(self.now)
        for step in range(MOST_STEPS):
            if isinstance(found, Wait):
                if self.asked and found.until > self.now + 3600:
                    return
                self.now = max(found.until, self.now + 0.01)
            elif found is None:
                return
            else:
                self.verdict = self.fail(found, step)
                if self.verdict is not Verdict.AGAIN:
                    return
            if self.asked:
                found = self.failover.choose(self.now, sent=self.sent, continuable=continuable)
            else:
                found = self.failover.first(self.now)
        raise AssertionError(f"still going after {MOST_STEPS} steps: {self.asked}")

    def fail(self, tried: Next, step: int) -> Verdict:
        outcome = self.outcomes[len(self.asked) % len(self.outcomes)]
        replica = tried.replica
        self.asked.append((replica, tried.kind, outcome))
        self.sent = self.sent or outcome in (Outcome.CUT, Outcome.STALLED)
        if outcome is Outcome.PREFILL_REFUSED:
            replica.state.continuation_refused(exact=bool(step % 2))
        return self.failover.after(replica, outcome, self.now)


@given(routers(), st.lists(st.sampled_from(FAILURES), min_size=1, max_size=10), st.booleans())
def test_a_request_ends_whatever_happens(over: Router, outcomes: list[Outcome], continuable: bool) -> None:
    request = Request(over, RetryBudget(0.0), outcomes)
    request.run(continuable=continuable)
    assert 1 <= len(request.asked) <= MOST_ATTEMPTS
    assert request.failover.attempts == len(request.asked)
    last = request.asked[-1][2]
    assert request.failover.last_outcome is last
    if last is Outcome.CALLER_ERROR:
        assert request.verdict is Verdict.PASS_ON


@given(routers(), st.lists(st.sampled_from(FAILURES), min_size=1, max_size=10), st.booleans())
def test_no_replica_is_asked_again_in_vain(over: Router, outcomes: list[Outcome], continuable: bool) -> None:
    request = Request(over, RetryBudget(0.0), outcomes)
    request.run(continuable=continuable)
    silent: set[Replica] = set()
    too_small: set[str] = set()
    answered: Counter[Replica] = Counter()
    for number, (replica, kind, outcome) in enumerate(request.asked):
        assert replica not in silent
        assert replica.pool.name not in too_small
        assert (kind is Kind.FIRST) is (number == 0)
        if outcome in SILENT:
            silent.add(replica)
        if outcome is Outcome.CONTEXT_OVERFLOW:
            too_small.add(replica.pool.name)
        if outcome not in (Outcome.CONNECT_FAILED, Outcome.PREFILL_REFUSED):
            answered[replica] += 1
    assert all(times <= 2 for times in answered.values())


@given(routers(), st.lists(st.sampled_from(FAILURES), min_size=1, max_size=10), st.booleans())
def test_what_follows_says_how_it_goes_on(over: Router, outcomes: list[Outcome], continuable: bool) -> None:
    request = Request(over, RetryBudget(0.0), outcomes)
    request.run(continuable=continuable)
    sent = False
    for number, (_, kind, outcome) in enumerate(request.asked):
        if number:
            assert (kind is Kind.RETRY) is not sent
            assert kind is not Kind.CONTINUATION or continuable
        sent = sent or outcome in (Outcome.CUT, Outcome.STALLED)


@given(st.integers(2, 5), st.sampled_from([Outcome.RESET, Outcome.SERVER_ERROR, Outcome.CUT, Outcome.THROTTLED]))
def test_another_supplier_comes_before_the_same_one(count: int, outcome: Outcome) -> None:
    over = router(*(pool(f"pool{number}", 2) for number in range(count)))
    request = Request(over, RetryBudget(0.0), [outcome])
    request.run(continuable=True)
    first = [replica.pool.supplier for replica, _, _ in request.asked[:count]]
    assert len(set(first)) == min(count, len(request.asked))


@given(st.integers(1, 400), st.integers(2, 8))
def test_an_outage_is_answered_with_a_bounded_storm(requests: int, count: int) -> None:
    """With everything failing at once, attempts are at most two a request and what the budget allows."""
    over = router(*(pool(f"pool{number}") for number in range(count)))
    budget = RetryBudget(0.0)
    attempts = 0
    for _ in range(requests):
        budget.request_started()
        request = Request(over, budget, [Outcome.STALLED])
        request.run(continuable=False)
        assert request.now == 0.0
        attempts += len(request.asked)
    assert attempts <= 2 * requests + FLOOR_PER_S * LONGEST_SAVING_S + 0.2 * requests + 1
