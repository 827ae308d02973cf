"""Image jobs: what a request comes to, and what happens when an attempt fails."""

import msgspec
import pytest

from secondsource.core.fleet import Price
from secondsource.core.records import Outcome, Settled
from secondsource.policy.expectation import Expectation, Size
from secondsource.policy.failover import Next, Verdict
from secondsource.policy.image_failover import ImageFailover
from secondsource.policy.image_jobs import Asked, Job, Status, judge, may_be_charged
from secondsource.policy.image_jobs import Verdict as Judged
from secondsource.policy.retry_budget import RetryBudget
from tests.fleets import MODEL, pool, replica_of, router

JOB = Job(
    job_id="imgjob_1",
    tenant="acme",
    lane="paid",
    key_id="k",
    idempotency_key="",
    fingerprint="f",
    request_id="req_1",
    owner="me",
    began=100.0,
)
DONE = msgspec.structs.replace(JOB, status=Status.DONE, ended=110.0)


def judged(
    keyed: Job | None = None, same: Job | None = None, *, key: str = "", fingerprint: str = "f", alive: bool = True
) -> Judged:
    return judge(Asked(fingerprint, key), keyed, same, alive=alive, undelivered_since=105.0)


def test_nothing_like_it_is_a_new_job() -> None:
    assert judged() is Judged.START
    assert judged(key="k") is Judged.START


def test_the_same_request_joins_while_it_runs() -> None:
    assert judged(same=JOB) is Judged.JOIN
    assert judged(same=JOB, alive=False) is Judged.RESUME
    assert judged(same=JOB, key="k") is Judged.JOIN  # the first had no key: it takes this one
    keyed = msgspec.structs.replace(JOB, idempotency_key="l")
    assert judged(same=keyed) is Judged.JOIN
    assert judged(same=keyed, key="k") is Judged.START  # two keys are two jobs


def test_without_a_key_an_answer_is_replayed_only_to_who_missed_it() -> None:
    assert judged(same=DONE) is Judged.REPLAY
    assert judged(same=msgspec.structs.replace(DONE, had=True)) is Judged.START
    assert judged(same=msgspec.structs.replace(DONE, ended=104.0)) is Judged.START


def test_a_key_is_for_one_request_and_replays_it_for_as_long_as_it_is_kept() -> None:
    had = msgspec.structs.replace(DONE, idempotency_key="k", had=True, ended=1.0)
    assert judged(had, had, key="k") is Judged.REPLAY
    assert judged(had, None, key="k", fingerprint="other") is Judged.CONFLICT
    assert judged(JOB, None, key="k", fingerprint="other") is Judged.CONFLICT
    assert judged(JOB, JOB, key="k", alive=False) is Judged.RESUME


def test_what_failed_may_be_asked_for_anew() -> None:
    failed = msgspec.structs.replace(DONE, status=Status.FAILED)
    assert judged(same=failed) is Judged.START
    assert judged(failed, failed, key="k") is Judged.START


def test_a_lost_attempt_is_made_elsewhere_once() -> None:
    over = router(pool("first"), pool("second", order=1), pool("third", order=2))
    failover = ImageFailover(over, RetryBudget(0.0), MODEL)
    found = failover.first(0.0)
    assert isinstance(found, Next)
    assert failover.after(found.replica, Outcome.RESET, 1.0, progressed=True) is Verdict.AGAIN
    again = failover.choose(1.0, sent=False, continuable=False)
    assert isinstance(again, Next)
    assert again.replica is replica_of(over, "second")
    assert failover.after(again.replica, Outcome.STALLED, 2.0, progressed=True) is Verdict.GIVE_UP


def test_an_attempt_that_made_nothing_does_not_count() -> None:
    over = router(pool("first"), pool("second", order=1), pool("third", order=2))
    failover = ImageFailover(over, RetryBudget(0.0), MODEL)
    for outcome in (Outcome.CONNECT_FAILED, Outcome.THROTTLED):
        assert failover.after(replica_of(over, "first"), outcome, 1.0) is Verdict.AGAIN
    assert failover.after(replica_of(over, "second"), Outcome.SERVER_ERROR, 1.0) is Verdict.AGAIN
    assert failover.after(replica_of(over, "third"), Outcome.SERVER_ERROR, 1.0) is Verdict.GIVE_UP


def test_the_callers_own_error_is_passed_on() -> None:
    over = router(pool("first"), pool("second"))
    failover = ImageFailover(over, RetryBudget(0.0), MODEL)
    assert failover.after(replica_of(over, "first"), Outcome.CALLER_ERROR, 1.0) is Verdict.PASS_ON


@pytest.mark.parametrize(
    ("outcome", "charged"),
    [
        (Outcome.OK, True),
        (Outcome.CLIENT_GONE, True),
        (Outcome.CUT, True),
        (Outcome.RESET, True),
        (Outcome.THROTTLED, False),
        (Outcome.CALLER_ERROR, False),
        (Outcome.SERVER_ERROR, False),
    ],
)
def test_what_a_supplier_may_charge_for(outcome: Outcome, charged: bool) -> None:
    assert may_be_charged(outcome) is charged


def test_what_images_need_is_told_by_their_pixels_and_steps() -> None:
    """Rent for as long as it is thought to take, half as much again; and no tokens but the prompt's."""
    rented, hosted = Price(nano_usd_per_replica_hour=3600), Price(nano_usd_per_image_step_megapixel=10)
    expectation = Expectation([pool("rented", price=rented), pool("hosted", price=hosted)])
    size = Size(body_bytes=40, pixel_steps=20_000_000)
    assert expectation.of(size).work_s == 1.0
    most = expectation.most(size)
    assert (most.tokens, most.nano_usd) == (62, 200)
    settled = Settled(
        attempt_id="r.1",
        at_ns=0,
        outcome=Outcome.OK,
        status=200,
        duration_ns=400_000_000_000,
        first_token_ns=0,
        replica_ns=0,
        tokens_in=9,
        tokens_cached=0,
        tokens_out=0,
        usage_counted=True,
        cost_nano_usd=7,
        tenant_nano_usd=7,
    )
    for _ in range(200):
        expectation.learn(size, settled, rented, streamed=False)
    assert expectation.of(size).work_s == pytest.approx(400.0, rel=0.01)
    assert expectation.most(size).nano_usd == pytest.approx(600, abs=10)
