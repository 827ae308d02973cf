"""Image requests as jobs: made once, whoever retries.

submit ──► RUNNING ──► DONE               a job's attempt fails: elsewhere once, then FAILED
   │          ▲
   └── the same again: joins it

A job is known by the client's `Idempotency-Key` for as long as it is kept, and by what is asked while it runs, or
until somebody has had its images. It runs on for a while when its clients leave, for they come back. A job whose
process has died is gone on with when it is asked for again. Times are seconds since 1970.
"""

from enum import StrEnum
from typing import NamedTuple

import msgspec

from secondsource.core.records import Outcome

# After these the supplier has made nothing, and the attempt does not count against the one retry.
MADE_NOTHING = frozenset({Outcome.CONNECT_FAILED, Outcome.THROTTLED, Outcome.NOT_OFFERED})
# After these, and answers of no use, the supplier's own words are that there is nothing to pay for.
CHARGED_NOTHING = MADE_NOTHING | {Outcome.CALLER_ERROR, Outcome.CONTEXT_OVERFLOW, Outcome.SERVER_ERROR}
MOST_ATTEMPTS = 2  # that may have made images, for one asking


class Status(StrEnum):
    """How a job stands."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"  # the same again is another job


class Verdict(StrEnum):
    """What a request for images comes to."""

    START = "start"  # a new job
    JOIN = "join"  # it runs: wait for it
    RESUME = "resume"  # it ran in a process that has died: make it again, as the same job
    REPLAY = "replay"  # it has ended: answer as it was answered
    CONFLICT = "conflict"  # this Idempotency-Key was used for another request


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One job as it stands."""

    job_id: str
    tenant: str
    lane: str
    key_id: str
    idempotency_key: str  # "" where the client gave none
    fingerprint: str  # of what is asked
    request_id: str  # the ledger's, of the last run
    owner: str  # the process that runs it, or did
    began: float
    status: Status = Status.RUNNING
    background: bool = False  # somebody was told to ask for it later, so that it runs to its end
    runs: int = 1  # by how many processes
    partial_images: int = 0  # that have come
    had: bool = False  # some client has had the answer
    ended: float = 0.0
    wanted: float = 0.0  # when another process last had a client waiting for it
    http_status: int = 0
    error: bytes = b""  # the error's body


class Asked(NamedTuple):
    """A request as far as it decides which job it is."""

    fingerprint: str
    idempotency_key: str


def judge(asked: Asked, keyed: Job | None, same: Job | None, *, alive: bool, undelivered_since: float) -> Verdict:
    """Return what a request comes to.

    `keyed` is the tenant's job of that `Idempotency-Key`. Without one, `same` is the last job that asked the same
    with the same API key. `alive` says whether the process that runs the one given lives. An answer that nobody has
    had is replayed without a key if its job ended after `undelivered_since`.
    """
    if keyed is not None and keyed.fingerprint != asked.fingerprint:
        return Verdict.CONFLICT
    job = keyed if keyed is not None else same
    if job is None or job.status is Status.FAILED:
        return Verdict.START
    if keyed is None and asked.idempotency_key and job.idempotency_key:
        return Verdict.START  # two keys are two jobs
    if job.status is Status.RUNNING:
        return Verdict.JOIN if alive else Verdict.RESUME
    if keyed is not None or (not job.had and job.ended > undelivered_since):
        return Verdict.REPLAY
    return Verdict.START


def may_be_charged(outcome: Outcome) -> bool:
    """Return whether a supplier may charge for an attempt that ended so; where nobody can know, it is taken to."""
    return outcome not in CHARGED_NOTHING
