"""Image requests as jobs: each is made once, whichever client asks, leaves and comes back, and through a restart.

A request starts a job, joins one that runs here, waits for one that another process runs, or is answered again as it
was. A job runs as an exchange like any other, so that its attempts are reserved and settled like any other.
"""

import asyncio
import logging
import secrets
import sqlite3
import time
from pathlib import Path
from typing import Protocol

import msgspec

from secondsource.core.fleet import Fleet
from secondsource.gateway.authentication import Principal
from secondsource.gateway.client import Lines
from secondsource.gateway.exchange import Exchange
from secondsource.gateway.images.alive import SignOfLife, lives
from secondsource.gateway.images.asker import Asker, Wish
from secondsource.gateway.images.job_answers import JOBS_PATH, failure_body, job_view, location
from secondsource.gateway.images.recording import Recording
from secondsource.gateway.images.run import Run
from secondsource.gateway.images.store import DIRECTORY, Answer, Claim, Store
from secondsource.gateway.recipient import Recipient
from secondsource.gateway.wire import image_request
from secondsource.gateway.wire.errors import error_body
from secondsource.gateway.wire.request import Ask, Endpoint, RequestError, parse_request
from secondsource.policy.image_jobs import Job, Status, Verdict

MOST_RUNNING = 1000  # in one process
TICK_S = 0.1
WANTED_EVERY_S = 1.0
SWEEP_S = 60.0
SWEEPS_PER_FILL = 8  # at least, while as much is kept anew as may be kept at all
LONGEST_ERROR = 16 * 1024
LONGEST_KEPT = 256 * 1024  # bytes of what a job in the background asks for
MOST_RUNS_UNASKED = 3  # of a job in the background: it may be the one that kills its process

LOST = error_body(502, "the gateway was restarted in mid-job; ask for the images again", code="job_lost")


class Host(Protocol):
    """The service, as its image jobs see it."""

    def begin(
        self, recipient: Recipient, ask: Ask, principal: Principal, request_id: str, headers: dict[bytes, bytes]
    ) -> Exchange:
        """Make an exchange that answers `recipient`, and let it in."""

    def new_request_id(self) -> str:
        """Return an id that no request has had."""


class ImageJobs:
    """The image jobs of one process; their store is shared with others."""

    def __init__(self, state_dir: Path, fleet: Fleet, host: Host, recording: Recording) -> None:
        self._fleet = fleet
        self._state_dir = state_dir
        self._host = host
        self._recording = recording
        self._store: Store | None = None
        self._life: SignOfLife | None = None
        self._runs: dict[str, Run] = {}
        self._elsewhere: dict[str, list[Wish]] = {}  # by job: those who wait for another process
        self._unread: list[Run] = []  # ended, with clients that have yet to read
        self._kept_since = 0  # bytes, since the last sweep
        self._ticking: asyncio.Task[None] | None = None

    def reload(self, fleet: Fleet) -> None:
        """Take how long jobs are kept as it is now."""
        self._fleet = fleet
        if self._store is not None:
            self._store.terms = fleet.images

    # -- starting and stopping

    def start(self) -> None:
        """Begin to look after jobs, those of an earlier start among them."""
        if (self._state_dir / DIRECTORY).exists():
            self._opened()
        self._ticking = asyncio.create_task(self._tick(), name="image jobs")

    def _opened(self) -> Store:
        """Return the store; a gateway that is asked for no images has none."""
        if self._store is None:
            self._store = Store(self._state_dir, self._fleet.images)
            self._store.remove_orphans()
            self._life = SignOfLife(self._store.directory)
        return self._store

    async def stop(self) -> None:
        """Leave what runs to whoever asks for it next, and let go."""
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.gather(self._ticking, return_exceptions=True)
        for run in list(self._runs.values()):
            run.abandon()
        self._runs.clear()
        if self._life is not None:
            self._life.end()
            self._life = None
        if self._store is not None:
            self._store.close()
            self._store = None

    # -- asking for images

    def asked(self, wish: Wish) -> Wish:
        """Start or join the job that a request comes to; raises RequestError."""
        image_request.check_image_request(wish.ask)
        key = image_request.idempotency_key(wish.headers)
        later = image_request.prefers_async(wish.headers)
        if later and len(wish.body) > LONGEST_KEPT:
            raise RequestError(f"a job in the background takes at most {LONGEST_KEPT} bytes", status=413)
        try:
            claim = self._claim(wish, key, later=later)
            if claim.verdict in (Verdict.START, Verdict.RESUME) and len(self._runs) >= MOST_RUNNING:
                self._opened().failed(claim.job.job_id, time.time(), 503, b"")
                self._refuse(wish, "too many image jobs run; try again", "too_many_jobs")
                return wish
        except (sqlite3.Error, OSError) as error:
            logging.getLogger("secondsource").warning("an image job could not be claimed: %s", error)
            self._refuse(wish, "the image jobs cannot be looked up now; try again", "jobs_unavailable")
            return wish
        self._recording.came_to(claim.verdict)
        if claim.verdict is Verdict.CONFLICT:
            message = "this Idempotency-Key was used for another request; send the same request, or take a new key"
            raise RequestError(message, status=422, param="Idempotency-Key", code="idempotency_key_reused")
        if claim.verdict in (Verdict.START, Verdict.RESUME):
            wish.is_first = not later
            self._run(claim.job, wish.ask, wish.principal, wish.headers, None if later else wish)
        elif not later:
            self._wait(wish, claim)
        if later:
            self._accept(wish, claim)
        return wish

    def _claim(self, wish: Wish, key: str, *, later: bool) -> Claim:
        store, life = self._opened(), self._life
        assert life is not None
        new = Job(
            job_id=f"imgjob_{secrets.token_hex(12)}",
            tenant=wish.principal.tenant,
            lane=wish.principal.lane,
            key_id=wish.principal.key_id,
            idempotency_key=key,
            fingerprint=image_request.fingerprint(wish.ask),
            request_id=wish.request_id,
            owner=life.owner,
            began=time.time(),
            background=later,
        )
        return store.submit(new, wish.body, self._alive)

    def _alive(self, job: Job) -> bool:
        """Return whether somebody runs a job."""
        assert self._life is not None
        if job.owner == self._life.owner:
            return job.job_id in self._runs
        return lives(self._opened().directory, job.owner)

    def _run(self, job: Job, ask: Ask, principal: Principal, headers: dict[bytes, bytes], wish: Wish | None) -> None:
        """Start a job's exchange, and let a client wait for it."""
        run = self._runs[job.job_id] = Run(job, self)
        if wish is not None:
            run.join(wish)
        exchange = self._host.begin(run, ask, principal, job.request_id, headers)
        if not run.over:  # an exchange that is over is let go of, so that the two do not keep each other
            run.exchange = exchange

    def _wait(self, wish: Wish, claim: Claim) -> None:
        """Let a client wait for a job that runs, wherever it does, or have its answer again."""
        run = self._runs.get(claim.job.job_id)
        if claim.verdict is Verdict.REPLAY:
            wish.read(self._replay(wish, claim.job.job_id))
        elif run is not None:
            run.job = claim.job
            run.join(wish)
        else:
            wish.watchers = self
            self._elsewhere.setdefault(claim.job.job_id, []).append(wish)

    def _accept(self, wish: Wish, claim: Claim) -> None:
        """Answer a client that does not wait."""
        job_id = claim.job.job_id
        run = self._runs.get(job_id)
        if claim.verdict is Verdict.REPLAY:
            wish.read(self._replay(wish, job_id))
            return
        if run is not None:
            run.job = claim.job
        job = self._opened().get(job_id) or claim.job
        if job.status is Status.FAILED:  # at once: there is nobody to make it
            self._answer(wish, job.http_status, failure_body(job), wish.lines([(b"retry-after", b"1")], job_id))
            return
        lines = wish.lines([*location(job), (b"preference-applied", b"respond-async")], job_id)
        self._answer(wish, 202, job_view(job, 0 if run is None else run.partial_images), lines)

    async def _replay(self, wish: Wish, job_id: str) -> None:
        store = self._opened()
        answer = await asyncio.to_thread(store.read, job_id)
        if answer is None:
            self._refuse(wish, "the answer has been let go of meanwhile; try again", "jobs_unavailable")
            return
        self._had(job_id)
        lines = wish.lines([*answer.headers, (b"idempotent-replayed", b"true")], job_id)
        self._answer(wish, 200, answer.body, lines, answer.content_type)

    def _answer(
        self, asker: Asker, status: int, body: bytes, lines: Lines, content_type: bytes = b"application/json"
    ) -> None:
        self._recording.ended(asker, status)
        asker.connection.respond(status, body, lines, content_type)

    def _refuse(self, asker: Asker, message: str, code: str) -> None:
        lines: Lines = [(b"x-request-id", asker.request_id.encode()), (b"retry-after", b"1")]
        self._answer(asker, 503, error_body(503, message, code=code), lines)

    # -- asking for a job

    def shown(self, asker: Asker, method: bytes) -> Asker:
        """Tell a tenant of its job; raises RequestError (404) for another's, and for one that there is not."""
        if method != b"GET":
            raise RequestError(f"a job does not take {method.decode('latin-1')}", status=405)
        job_id = asker.path.removeprefix(JOBS_PATH)
        job = self._opened().get(job_id) if (self._state_dir / DIRECTORY).exists() else None
        if job is None or job.tenant != asker.principal.tenant:
            raise RequestError(f"there is no image job '{job_id[:100]}'", status=404, code="job_not_found")
        if job.status is Status.RUNNING and job.background and not self._alive(job):
            job = self._resumed(job)
        elif job.status is Status.RUNNING and not self._alive(job):
            job = msgspec.structs.replace(job, status=Status.FAILED, error=LOST)
        asker.read(self._tell(asker, job))
        return asker

    def _resumed(self, job: Job) -> Job:
        """Go on with a job whose process has died: somebody was told to ask for it."""
        store, life = self._opened(), self._life
        assert life is not None
        taken = store.resume(job.job_id, life.owner, self._host.new_request_id(), self._alive)
        if taken is None:
            return store.get(job.job_id) or job
        job, body = taken
        principal = Principal(tenant=job.tenant, lane=job.lane, key_id=job.key_id)
        ask = self._kept_ask(body)
        if ask is None or job.runs > MOST_RUNS_UNASKED:
            store.failed(job.job_id, time.time(), 502, LOST)
        else:
            self._run(job, ask, principal, {}, None)
        return store.get(job.job_id) or job

    def _kept_ask(self, body: bytes) -> Ask | None:
        """Return what a job asked for, or None where the fleet has changed so that nobody has it any more."""
        models = self._fleet.models
        try:
            ask = parse_request(Endpoint.IMAGES, body, self._fleet.image_model or models[0])
        except RequestError:
            return None
        return ask if ask.model in models else None

    async def _tell(self, asker: Asker, job: Job) -> None:
        answer: Answer | None = None
        if job.status is Status.DONE:
            answer = await asyncio.to_thread(self._opened().read, job.job_id)
            self._had(job.job_id)
        run = self._runs.get(job.job_id)
        lines = asker.lines(location(job)[1:] if job.status is Status.RUNNING else [], job.job_id)
        self._answer(asker, 200, job_view(job, 0 if run is None else run.partial_images, answer), lines)

    # -- what runs and those who wait say

    def ended(self, run: Run, status: int, body: bytes, answer: Answer | None) -> None:
        """Keep what a run has come to, before its attempt is settled and its clients are told."""
        job_id = run.job.job_id
        run.exchange = None
        self._runs.pop(job_id, None)
        self._unread.append(run)
        store = self._opened()
        try:
            if answer is not None:
                store.keep(job_id, answer)
                store.done(job_id, time.time(), len(answer.body))
                self._kept_since += len(answer.body)
            else:
                store.failed(job_id, time.time(), status, body[:LONGEST_ERROR])
        except (sqlite3.Error, OSError) as error:
            logging.getLogger("secondsource").warning("what image job %s came to is not kept: %s", job_id, error)

    def answered(self, wish: Wish, job_id: str, status: int) -> None:
        """Note that a client is answered."""
        if status == 200:
            self._had(job_id)
        if not wish.is_first:
            self._recording.ended(wish, status)

    def left(self, wish: Wish) -> None:
        """Note that a client has left: its job runs on."""
        if isinstance(wish.run, Run):
            wish.run.leave(wish)
        for job_id, wishes in list(self._elsewhere.items()):
            if wish in wishes:
                wishes.remove(wish)
                if not wishes:
                    del self._elsewhere[job_id]
        if not wish.is_first:
            self._recording.ended(wish, 499)

    def _had(self, job_id: str) -> None:
        try:
            self._opened().had(job_id)
        except sqlite3.Error as error:
            logging.getLogger("secondsource").warning("image job %s could not be let go of: %s", job_id, error)

    # -- looking after jobs

    async def _tick(self) -> None:
        sweeps_at = time.monotonic()
        while True:
            await asyncio.sleep(TICK_S)
            if self._store is None:
                continue
            now = time.monotonic()
            try:
                self._look_after(self._store, now)
                if now >= sweeps_at or self._kept_since > self._fleet.images.kept_bytes // SWEEPS_PER_FILL:
                    sweeps_at, self._kept_since = now + SWEEP_S, 0
                    await asyncio.to_thread(self._store.sweep, time.time())
            except (sqlite3.Error, OSError) as error:
                logging.getLogger("secondsource").warning("the image jobs could not be looked after: %s", error)

    def _look_after(self, store: Store, now: float) -> None:
        for run in list(self._runs.values()):
            if run.partial_images > run.job.partial_images:
                store.progressed(run.job.job_id, run.partial_images)
            if not run.wishes and now - run.left_at > self._fleet.images.comes_back_s:
                self._cancel_unless_wanted(store, run)
        self._unread = [run for run in self._unread if run.wishes]
        for run in self._unread:
            for wish in list(run.wishes):
                if now - max(wish.started, run.left_at) > self._fleet.timeouts.total:
                    wish.connection.abort()
        for job_id in list(self._elsewhere):
            self._look_elsewhere(store, job_id)

    def _cancel_unless_wanted(self, store: Store, run: Run) -> None:
        job = store.get(run.job.job_id) or run.job
        if not job.background and time.time() - job.wanted > self._fleet.images.comes_back_s:
            run.cancel()

    def _look_elsewhere(self, store: Store, job_id: str) -> None:
        """Look what has become of a job that another process runs."""
        job = store.get(job_id)
        if job is not None and job.status is Status.RUNNING and self._alive(job):
            if time.time() - job.wanted > min(WANTED_EVERY_S, self._fleet.images.comes_back_s / 4):
                store.wanted(job_id, time.time())
            return
        for wish in self._elsewhere.pop(job_id):
            wish.watchers = None
            if job is not None and job.status is Status.DONE:
                wish.read(self._replay(wish, job_id))
            elif job is not None and job.status is Status.FAILED:
                self._answer(wish, job.http_status or 502, failure_body(job), wish.lines([], job_id))
            else:  # its process has died
                self._ask_again(wish)

    def _ask_again(self, wish: Wish) -> None:
        try:
            self.asked(wish)
        except RequestError as error:
            body = error_body(error.status, error.message, param=error.param, code=error.code)
            self._answer(wish, error.status, body, [(b"x-request-id", wish.request_id.encode())])
