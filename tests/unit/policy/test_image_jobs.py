"""Image jobs: one generation whoever retries, elsewhere once, over a restart too."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondsource.policy.image_jobs import KEPT_S, MOST_ATTEMPTS, ImageJobs, Job, Next, Status, Verdict, images_nano_usd


def started(jobs: ImageJobs, key: str = "", fingerprint: str = "f", job_id: str = "1") -> Job:
    verdict, job = jobs.submit(job_id, "acme", key, fingerprint, 0.0)
    assert verdict is Verdict.START
    jobs.attempted(job, "azure")
    return job


def test_the_same_request_joins_while_it_runs_and_not_afterwards() -> None:
    jobs = ImageJobs()
    job = started(jobs)
    assert jobs.submit("2", "acme", "", "f", 1.0) == (Verdict.JOIN, job)
    jobs.done(job, 2.0)
    assert jobs.submit("3", "acme", "", "f", 3.0)[0] is Verdict.START  # a second image was asked for


def test_an_idempotency_key_joins_replays_and_conflicts() -> None:
    jobs = ImageJobs()
    job = started(jobs, "k")
    assert jobs.submit("2", "acme", "k", "f", 1.0) == (Verdict.JOIN, job)
    assert jobs.submit("2", "acme", "k", "other", 1.0)[0] is Verdict.CONFLICT
    assert jobs.submit("2", "globex", "k", "g", 1.0)[0] is Verdict.START  # another tenant's key is another key
    jobs.done(job, 2.0)
    assert jobs.submit("3", "acme", "k", "f", 3.0) == (Verdict.REPLAY, job)


def test_two_keys_are_two_jobs() -> None:
    jobs = ImageJobs()
    started(jobs, "k")
    assert jobs.submit("2", "acme", "l", "f", 1.0)[0] is Verdict.START


def test_a_failed_attempt_is_made_elsewhere_once() -> None:
    jobs = ImageJobs()
    job = started(jobs, "k")
    assert jobs.failed(job, 1.0) is Next.AGAIN_ELSEWHERE
    assert job.tried_suppliers == ["azure"]
    jobs.attempted(job, "oci")
    assert jobs.failed(job, 2.0) is Next.GIVE_UP
    assert job.status is Status.FAILED
    assert jobs.submit("2", "acme", "k", "f", 3.0)[0] is Verdict.START  # what failed may be tried anew


def test_a_restart_finds_its_jobs_and_counts_the_lost_attempt() -> None:
    before = ImageJobs()
    job = started(before, "k")
    written = msgspec.json.encode(job)
    after = ImageJobs()
    again = msgspec.json.decode(written, type=Job)
    assert after.restore([again], 5.0) == [(again, Next.AGAIN_ELSEWHERE)]
    assert after.submit("2", "acme", "k", "f", 6.0) == (Verdict.JOIN, again)
    after.attempted(again, "oci")
    third = ImageJobs()
    assert third.restore([again], 7.0) == [(again, Next.GIVE_UP)]


def test_old_jobs_are_forgotten() -> None:
    jobs = ImageJobs()
    job = started(jobs, "k")
    jobs.done(job, 1.0)
    jobs.sweep(KEPT_S)
    assert jobs.get("1") is job
    jobs.sweep(KEPT_S + 1.0)
    assert len(jobs) == 0
    assert jobs.submit("2", "acme", "k", "f", KEPT_S + 2.0)[0] is Verdict.START


def test_a_price_is_of_pixels_and_steps() -> None:
    assert images_nano_usd(1_000_000, 2, 30, 1000, 1000) == 60_000_000
    assert images_nano_usd(1, 1, 1, 500, 1000) == 1  # half up


scripts = st.lists(st.tuples(st.sampled_from(["ask", "fail", "done"]), st.sampled_from(["", "k", "l"])), max_size=60)


@given(scripts)
def test_no_job_is_made_more_than_twice_and_none_twice_at_once(script: list[tuple[str, str]]) -> None:
    jobs = ImageJobs()
    running: dict[str, Job] = {}
    for step, (what, key) in enumerate(script):
        now = float(step)
        if what == "ask":
            verdict, job = jobs.submit(str(step), "acme", key, "f", now)
            if verdict is Verdict.START:
                assert not any(one.idempotency_key == key for one in running.values() if key)
                running[job.job_id] = job
                jobs.attempted(job, "azure")
        elif running:
            job = running.pop(next(iter(running)))
            if what == "done":
                jobs.done(job, now)
            elif jobs.failed(job, now) is Next.AGAIN_ELSEWHERE:
                jobs.attempted(job, "oci")
                running[job.job_id] = job
            assert job.attempts <= MOST_ATTEMPTS


def test_an_attempt_for_a_job_that_ended_is_our_own_mistake() -> None:
    jobs = ImageJobs()
    job = started(jobs)
    jobs.done(job, 1.0)
    with pytest.raises(AssertionError):
        jobs.attempted(job, "oci")
