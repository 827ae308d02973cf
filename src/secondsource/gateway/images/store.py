"""The jobs of a state directory: one SQLite file that every process of it shares, and one file for each answer.

A job is claimed in one transaction, so that two processes never start the same. What is written here outlives a
`kill -9`: SQLite's log and the answers are the kernel's once written. Nothing is forced to disk on the event loop's
thread, save by `sweep`, which is called on another.

An answer is whole once it has its name, and is written before the attempt that made it is settled: a process that
dies in between leaves an answer that nobody was billed for, and never a bill without its answer.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from secondsource.core.errors import InputError
from secondsource.core.fleet import ImageTerms
from secondsource.gateway.books.absorption import transaction
from secondsource.gateway.images.alive import remove_dead
from secondsource.policy.image_jobs import Asked, Job, Status, Verdict, judge

DIRECTORY = "images"
FILE = "jobs.sqlite3"
SCHEMA_VERSION = 1
LOCKED_S = 0.25  # at most, while another process claims a job
ROW_BYTES = 1024  # that a job without its answer is counted as
TABLES = """
CREATE TABLE job (
    job_id TEXT NOT NULL PRIMARY KEY, tenant TEXT NOT NULL, lane TEXT NOT NULL, key_id TEXT NOT NULL,
    idempotency_key TEXT NOT NULL, fingerprint TEXT NOT NULL, request_id TEXT NOT NULL, owner TEXT NOT NULL,
    began REAL NOT NULL, status TEXT NOT NULL, background INTEGER NOT NULL, runs INTEGER NOT NULL,
    partial_images INTEGER NOT NULL, had INTEGER NOT NULL, ended REAL NOT NULL, wanted REAL NOT NULL,
    http_status INTEGER NOT NULL, error BLOB NOT NULL,
    body BLOB,                      -- of a job in the background that runs, to make it again after a death
    size INTEGER NOT NULL DEFAULT 0 -- of the answer in bytes
) STRICT;
CREATE UNIQUE INDEX job_key ON job (tenant, idempotency_key) WHERE idempotency_key != '' AND status != 'failed';
CREATE INDEX job_same ON job (tenant, key_id, fingerprint, began);
CREATE INDEX job_ended ON job (ended);
"""
# What nobody can ask for again goes as soon as those who may be reading it have it.
OLD = """
SELECT job_id FROM job WHERE max(began, ended) < ?
OR (had = 1 AND ended < ? AND idempotency_key = '' AND background = 0)
"""
READING_S = 10.0
FIELDS = tuple(field.name for field in msgspec.structs.fields(Job))
COLUMNS = ", ".join(FIELDS)


class Answer(msgspec.Struct, frozen=True):
    """A whole answer, as it is kept."""

    content_type: bytes
    headers: list[tuple[bytes, bytes]]  # where it was made
    body: bytes


class Claim(msgspec.Struct, frozen=True):
    """What a request came to, and its job."""

    verdict: Verdict
    job: Job


class Store:
    """The jobs, as one process sees them; to be used from one thread, save for `sweep`."""

    def __init__(self, state_dir: Path, terms: ImageTerms) -> None:
        self.directory = state_dir / DIRECTORY
        self._path = self.directory / FILE
        self.terms = terms
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._connection = self._open()
        with transaction(self._connection):
            _create_or_check(self._connection, self._path)

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=LOCKED_S, isolation_level=None)
        with _as_input_error(self._path):
            for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "wal_autocheckpoint = 0"):
                connection.execute(f"PRAGMA {pragma}")
        return connection

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    # -- what requests come to

    def submit(self, new: Job, body: bytes, alive: Callable[[Job], bool]) -> Claim:
        """Return what a request comes to; `new` is the job that it becomes if it is to be a new one.

        `body` is kept of a job in the background. `alive` says whether a job's process still runs it.
        """
        asked = Asked(new.fingerprint, new.idempotency_key)
        with transaction(self._connection):
            keyed = self._keyed(new)
            found = keyed if keyed is not None else self._same(new)
            if found is not None and found.status is Status.RUNNING and not alive(found):
                found = self._recovered(found)
            elif found is not None and found.status is Status.DONE and not self._answer(found.job_id).exists():
                self._remove(found.job_id)  # its answer has been let go of since
                found = None
            verdict = judge(
                asked,
                found if keyed is not None else None,
                found,
                alive=found is not None and alive(found),
                undelivered_since=new.began - self.terms.comes_back_s,
            )
            if verdict is Verdict.START or found is None:
                self._insert(new, body)
                return Claim(Verdict.START, new)
            if verdict is Verdict.CONFLICT:
                return Claim(verdict, found)
            return Claim(verdict, self._joined(verdict, found, new, body))

    def _joined(self, verdict: Verdict, found: Job, new: Job, body: bytes) -> Job:
        """Give a job what a request that joins it brings: a key where it had none, a wish to be told later."""
        job = msgspec.structs.replace(
            found,
            idempotency_key=found.idempotency_key or new.idempotency_key,
            background=found.background or new.background,
        )
        if verdict is Verdict.RESUME:
            job = msgspec.structs.replace(
                job, owner=new.owner, request_id=new.request_id, runs=job.runs + 1, partial_images=0
            )
        if job != found:
            self._update(job)
        if new.background and job.status is Status.RUNNING:
            self._connection.execute("UPDATE job SET body = ? WHERE job_id = ?", (body, job.job_id))
        return job

    def resume(
        self, job_id: str, owner: str, request_id: str, alive: Callable[[Job], bool]
    ) -> tuple[Job, bytes] | None:
        """Take over a job in the background whose process has died; None where there is nothing to take over."""
        with transaction(self._connection):
            job = self.get(job_id)
            if job is None or job.status is not Status.RUNNING or alive(job) or not job.background:
                return None
            job = self._recovered(job)
            if job.status is not Status.RUNNING:
                return None
            job = msgspec.structs.replace(job, owner=owner, request_id=request_id, runs=job.runs + 1, partial_images=0)
            self._update(job)
            (body,) = self._connection.execute("SELECT body FROM job WHERE job_id = ?", (job_id,)).fetchone()
            return job, body

    def _recovered(self, job: Job) -> Job:
        """Return a job whose process has died: done, if its answer had been written whole."""
        answer = self._answer(job.job_id)
        if not answer.exists():
            return job
        made = answer.stat()
        job = msgspec.structs.replace(job, status=Status.DONE, http_status=200, ended=made.st_mtime)
        self._update(job, size=made.st_size)
        return job

    # -- what becomes of a job

    def get(self, job_id: str) -> Job | None:
        """Return a job as it stands."""
        return self._one("job_id = ?", (job_id,))

    def progressed(self, job_id: str, partial_images: int) -> None:
        """Note partial images."""
        self._connection.execute("UPDATE job SET partial_images = ? WHERE job_id = ?", (partial_images, job_id))

    def wanted(self, job_id: str, now: float) -> None:
        """Note that a client of this process waits for a job that another one runs."""
        self._connection.execute("UPDATE job SET wanted = ? WHERE job_id = ?", (now, job_id))

    def keep(self, job_id: str, answer: Answer) -> None:
        """Write an answer: whole or not at all. Raises OSError."""
        unborn = self._answer(job_id).with_suffix(".part")
        head = msgspec.json.encode({"content_type": answer.content_type, "headers": answer.headers})
        with unborn.open("wb", buffering=0) as file:
            for data in (head + b"\n", answer.body):
                written = file.write(data)
                if written != len(data):
                    raise OSError(f"{unborn}: the disk is full")
        unborn.rename(self._answer(job_id))

    def done(self, job_id: str, now: float, size: int) -> None:
        """Note that a job has its answer, of so many bytes."""
        self._connection.execute(
            "UPDATE job SET status = 'done', ended = ?, http_status = 200, size = ?, body = NULL WHERE job_id = ?",
            (now, size, job_id),
        )

    def failed(self, job_id: str, now: float, http_status: int, error: bytes) -> None:
        """Note that a job has failed, and what its clients were told."""
        self._connection.execute(
            "UPDATE job SET status = 'failed', ended = ?, http_status = ?, error = ?, body = NULL WHERE job_id = ?",
            (now, http_status, error, job_id),
        )

    def read(self, job_id: str) -> Answer | None:
        """Return a kept answer; from any thread."""
        try:
            data = self._answer(job_id).read_bytes()
        except FileNotFoundError:
            return None
        head, _, body = data.partition(b"\n")
        return msgspec.convert({**msgspec.json.decode(head), "body": body}, Answer)

    def had(self, job_id: str) -> None:
        """Note that a client has had the answer."""
        self._connection.execute("UPDATE job SET had = 1 WHERE job_id = ? AND had = 0", (job_id,))

    # -- letting go

    def sweep(self, now: float) -> None:
        """Let go of what is old or too much, and write the rest to its place; on a thread of its own."""
        with closing(self._open()) as connection:
            rows = connection.execute(OLD, (now - self.terms.kept_s, now - READING_S))
            old = [job_id for (job_id,) in rows]
            for job_id in (*old, *self._too_much(connection, set(old))):
                connection.execute("DELETE FROM job WHERE job_id = ?", (job_id,))
                self._answer(job_id).unlink(missing_ok=True)
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        remove_dead(self.directory)

    def _too_much(self, connection: sqlite3.Connection, but: set[str]) -> Iterator[str]:
        """Yield the oldest of what has ended, beyond what may be kept."""
        room = self.terms.kept_bytes
        rows = connection.execute(
            "SELECT job_id, size FROM job WHERE status != 'running' ORDER BY ended DESC"
        ).fetchall()
        for job_id, size in rows:
            if job_id in but:
                continue
            room -= size + ROW_BYTES
            if room < 0:
                yield job_id

    def remove_orphans(self) -> None:
        """Remove answers that no job has any more, and halves of some; at the start."""
        found = [*self.directory.glob("*.answer"), *self.directory.glob("*.part")]
        known = {job_id for (job_id,) in self._connection.execute("SELECT job_id FROM job")}
        for path in found:  # looked for first: a job is known before its answer is
            if path.stem not in known:
                path.unlink(missing_ok=True)

    def _remove(self, job_id: str) -> None:
        self._connection.execute("DELETE FROM job WHERE job_id = ?", (job_id,))
        self._answer(job_id).unlink(missing_ok=True)

    # -- rows

    def _answer(self, job_id: str) -> Path:
        return self.directory / f"{job_id}.answer"

    def _keyed(self, new: Job) -> Job | None:
        if not new.idempotency_key:
            return None
        return self._one(
            "tenant = ? AND idempotency_key = ? AND idempotency_key != '' AND status != 'failed'",
            (new.tenant, new.idempotency_key),
        )

    def _same(self, new: Job) -> Job | None:
        return self._one(
            "tenant = ? AND key_id = ? AND fingerprint = ? AND status != 'failed' ORDER BY began DESC LIMIT 1",
            (new.tenant, new.key_id, new.fingerprint),
        )

    def _one(self, where: str, values: tuple[str, ...]) -> Job | None:
        row = self._connection.execute(f"SELECT {COLUMNS} FROM job WHERE {where}", values).fetchone()  # noqa: S608
        return None if row is None else msgspec.convert(dict(zip(FIELDS, row, strict=True)), Job, strict=False)

    def _insert(self, job: Job, body: bytes) -> None:
        marks = ", ".join("?" * (len(FIELDS) + 1))
        values = (*_row(job), body if job.background else None)
        self._connection.execute(f"INSERT INTO job ({COLUMNS}, body) VALUES ({marks})", values)  # noqa: S608

    def _update(self, job: Job, size: int = 0) -> None:
        keeps_body = job.status is Status.RUNNING
        self._connection.execute(
            f"UPDATE job SET {', '.join(f'{name} = ?' for name in FIELDS)}, size = max(size, ?), "  # noqa: S608
            "body = CASE WHEN ? THEN body ELSE NULL END WHERE job_id = ?",
            (*_row(job), size, keeps_body, job.job_id),
        )


def _row(job: Job) -> tuple[object, ...]:
    return tuple(getattr(job, name) for name in FIELDS)


@contextmanager
def _as_input_error(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise InputError(f"{path} cannot be read: {error}; move it away, the jobs in it are lost") from error


def _create_or_check(connection: sqlite3.Connection, path: Path) -> None:
    with _as_input_error(path):
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            for statement in TABLES.split(";\n"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        elif version != SCHEMA_VERSION:
            raise InputError(
                f"{path} was written by another version of secondsource (its schema is {version}, this one knows "
                f"{SCHEMA_VERSION}): move it away, the jobs in it are lost"
            )
