"""What a client is told of a job that it does not wait for."""

import msgspec

from secondsource.gateway.client import Lines
from secondsource.gateway.images.store import Answer
from secondsource.gateway.wire.errors import error_body
from secondsource.gateway.wire.image_events import as_whole_answer
from secondsource.policy.image_jobs import Job, Status

JOBS_PATH = "/v1/images/jobs/"
ASK_AGAIN_S = 2
_NULL = msgspec.Raw(b"null")


class JobView(msgspec.Struct, frozen=True, kw_only=True):
    """A job as its tenant sees it."""

    id: str
    object: str = "image.job"
    status: Status
    created_at: int
    ended_at: int | None
    request_id: str
    partial_images: int
    result: msgspec.Raw  # what the request would have been answered, or null
    error: msgspec.Raw  # OpenAI's error object, or null


def job_view(job: Job, partial_images: int, answer: Answer | None = None) -> bytes:
    """Return a job as JSON; `answer` is that of one that is done."""
    view = JobView(
        id=job.job_id,
        status=job.status,
        created_at=int(job.began),
        ended_at=int(job.ended) if job.ended else None,
        request_id=job.request_id,
        partial_images=max(partial_images, job.partial_images),
        result=_NULL if answer is None else msgspec.Raw(_whole(answer)),
        error=_error(failure_body(job)) if job.status is Status.FAILED else _NULL,
    )
    return msgspec.json.encode(view)


def location(job: Job) -> Lines:
    """Return the headers that tell where a job is to be asked for, and when."""
    return [(b"location", f"{JOBS_PATH}{job.job_id}".encode()), (b"retry-after", b"%d" % ASK_AGAIN_S)]


def failure_body(job: Job) -> bytes:
    """Return the error that a failed job's clients are told."""
    if job.error:
        return job.error
    return error_body(job.http_status or 502, "the job was given up: nobody waited for it", code="job_given_up")


def _whole(answer: Answer) -> bytes:
    return as_whole_answer(answer.body) if b"event-stream" in answer.content_type else answer.body


class _Error(msgspec.Struct):
    error: msgspec.Raw = _NULL


def _error(body: bytes) -> msgspec.Raw:
    try:
        return msgspec.json.decode(body, type=_Error).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        return msgspec.Raw(msgspec.json.encode({"message": body[:500].decode("utf-8", "replace")}))
