"""Image requests as jobs: made once, whoever retries.

submit ──► RUNNING ──► DONE               a job's attempt fails: elsewhere once, then FAILED
   │          ▲
   └── the same again: joins it

A job is known by the client's `Idempotency-Key`, for as long as it is kept, or by the fingerprint of the request while
it runs. It runs on when its clients leave, for they come back. Times are seconds since 1970.
"""

from collections.abc import Iterable
from enum import StrEnum

import msgspec

MOST_ATTEMPTS = 2
KEPT_S = 86_400.0
MEGAPIXEL = 1_000_000


class Status(StrEnum):
    """How a job stands."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class Verdict(StrEnum):
    """What a request for an image comes to."""

    START = "start"  # a new job: make the first attempt
    JOIN = "join"  # it runs already: wait for it
    REPLAY = "replay"  # it has ended: answer as it was answered
    CONFLICT = "conflict"  # this Idempotency-Key was used for another request


class Next(StrEnum):
    """What to do after an attempt has failed."""

    AGAIN_ELSEWHERE = "again_elsewhere"
    GIVE_UP = "give_up"


class Job(msgspec.Struct, kw_only=True):
    """One job; journalled whole at each change, so that a restart finds it."""

    job_id: str
    tenant: str
    idempotency_key: str  # "" where the client gave none
    fingerprint: str  # of the key and the request's body
    began: float
    status: Status = Status.RUNNING
    attempts: int = 0
    tried_suppliers: list[str] = []  # not to be asked again
    steps_done: int = 0
    steps: int = 0  # 0 while nobody has said
    ended: float = 0.0


class ImageJobs:
    """The jobs of a gateway."""

    __slots__ = ("_by_fingerprint", "_by_key", "_jobs")

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._by_key: dict[tuple[str, str], Job] = {}  # tenant and Idempotency-Key
        self._by_fingerprint: dict[str, Job] = {}  # of jobs that run

    def submit(
        self, job_id: str, tenant: str, idempotency_key: str, fingerprint: str, now: float
    ) -> tuple[Verdict, Job]:
        """Return what a request comes to, and its job: a new one by `job_id`, or the one that it joins."""
        found = self._by_key.get((tenant, idempotency_key)) if idempotency_key else None
        if found is not None and found.fingerprint != fingerprint:
            return Verdict.CONFLICT, found
        if found is not None and found.status is not Status.FAILED:
            return (Verdict.JOIN if found.status is Status.RUNNING else Verdict.REPLAY), found
        running = self._by_fingerprint.get(fingerprint)
        if running is not None and running.tenant == tenant:
            if idempotency_key and not running.idempotency_key:
                running.idempotency_key = idempotency_key
                self._by_key[tenant, idempotency_key] = running
            if idempotency_key in ("", running.idempotency_key):
                return Verdict.JOIN, running
        job = Job(job_id=job_id, tenant=tenant, idempotency_key=idempotency_key, fingerprint=fingerprint, began=now)
        self._keep(job)
        return Verdict.START, job

    def get(self, job_id: str) -> Job | None:
        """Return a job by its id, as `/v1/images/jobs/{id}` asks for it."""
        return self._jobs.get(job_id)

    def attempted(self, job: Job, supplier: str) -> None:
        """Note that an attempt is about to be sent."""
        assert job.status is Status.RUNNING, "an attempt for a job that has ended"
        assert job.attempts < MOST_ATTEMPTS, "one attempt too many"
        job.attempts += 1
        job.tried_suppliers.append(supplier)

    def progressed(self, job: Job, steps_done: int, steps: int) -> None:
        """Note progress, which a second attempt never takes back."""
        job.steps_done, job.steps = max(job.steps_done, steps_done), steps

    def done(self, job: Job, now: float) -> None:
        """Note that a job has its images."""
        self._end(job, Status.DONE, now)

    def failed(self, job: Job, now: float, *, callers_own: bool = False) -> Next:
        """Note a failed attempt, which is the operator's to pay; `callers_own` is an error that will not go away."""
        if not callers_own and job.attempts < MOST_ATTEMPTS:
            return Next.AGAIN_ELSEWHERE
        self._end(job, Status.FAILED, now)
        return Next.GIVE_UP

    def restore(self, jobs: Iterable[Job], now: float) -> list[tuple[Job, Next]]:
        """Take in the jobs of a gateway that has died; returns those that ran, and what to do with each.

        Whatever their attempt made is lost, so it counts as failed.
        """
        interrupted = []
        for job in jobs:
            if job.status is Status.RUNNING or now - job.ended < KEPT_S:
                self._keep(job)
            if job.status is Status.RUNNING:
                interrupted.append((job, self.failed(job, now)))
        return interrupted

    def sweep(self, now: float) -> None:
        """Forget jobs that ended long ago."""
        old = [job for job in self._jobs.values() if job.status is not Status.RUNNING and now - job.ended >= KEPT_S]
        for job in old:
            del self._jobs[job.job_id]
            if self._by_key.get((job.tenant, job.idempotency_key)) is job:
                del self._by_key[job.tenant, job.idempotency_key]

    def __len__(self) -> int:
        return len(self._jobs)

    def _keep(self, job: Job) -> None:
        self._jobs[job.job_id] = job
        if job.idempotency_key:
            self._by_key[job.tenant, job.idempotency_key] = job
        if job.status is Status.RUNNING:
            self._by_fingerprint[job.fingerprint] = job

    def _end(self, job: Job, status: Status, now: float) -> None:
        job.status, job.ended = status, now
        if self._by_fingerprint.get(job.fingerprint) is job:
            del self._by_fingerprint[job.fingerprint]


def images_nano_usd(nano_usd_per_megapixel_step: int, images: int, steps: int, width: int, height: int) -> int:
    """Return the price of images by their size in pixels and their denoising steps, rounded half up once."""
    return (nano_usd_per_megapixel_step * images * steps * width * height + MEGAPIXEL // 2) // MEGAPIXEL
