"""Two processes, their deaths and any order of asking: a key has one answer and one bill, and one maker at a time."""

import shutil
import tempfile
from pathlib import Path

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from secondsource.core.fleet import ImageTerms
from secondsource.gateway.images.store import Answer, Store
from secondsource.policy.image_jobs import Job, Verdict

KEYS = st.sampled_from(["", "k", "k", "l"])
PROCESSES = st.sampled_from([0, 1])
BODIES = st.sampled_from(["f", "f", "f", "g"])


class Asking(RuleBasedStateMachine):
    """What two processes do with one store, and what a bookkeeper would say of it."""

    @initialize()
    def begin(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.stores = [Store(self.directory, ImageTerms()) for _ in range(2)]
        self.names = ["a0", "b0"]
        self.running: dict[str, int] = {}  # by job: the process that makes it
        self.billed: dict[str, int] = {}  # by job
        self.answers: dict[str, bytes] = {}
        self.key_of: dict[str, tuple[str, str]] = {}
        self.count = 0

    def teardown(self) -> None:
        for store in self.stores:
            store.close()
        shutil.rmtree(self.directory)

    def alive(self, job: Job) -> bool:
        return job.owner in self.names and self.running.get(job.job_id) == self.names.index(job.owner)

    @rule(process=PROCESSES, key=KEYS, body=BODIES)
    def ask(self, process: int, key: str, body: str) -> None:
        self.count += 1
        new = Job(
            job_id=f"imgjob_{self.count}",
            tenant="acme",
            lane="paid",
            key_id="k",
            idempotency_key=key,
            fingerprint=body,
            request_id=f"req_{self.count}",
            owner=self.names[process],
            began=float(self.count),
        )
        claim = self.stores[process].submit(new, b"", self.alive)
        job = claim.job
        if claim.verdict in (Verdict.START, Verdict.RESUME):
            assert job.job_id not in self.running, "two make one job"
            self.running[job.job_id] = process
        elif claim.verdict is Verdict.JOIN:
            assert job.job_id in self.running, "somebody waits for nobody"
        elif claim.verdict is Verdict.REPLAY:
            kept = self.stores[process].read(job.job_id)
            assert kept is not None
            assert kept.body == self.answers[job.job_id]
            self.stores[process].had(job.job_id)
        if claim.verdict is not Verdict.CONFLICT:
            assert job.fingerprint == body
            assert key in ("", job.idempotency_key)
            self.key_of[job.job_id] = (job.idempotency_key, body)

    def some_job(self, number: int) -> str | None:
        return sorted(self.running)[number % len(self.running)] if self.running else None

    @rule(number=st.integers(0, 9), dies=st.sampled_from(["no", "after writing", "before settling"]))
    def finish(self, number: int, dies: str) -> None:
        """A job has its answer; its process may die between writing it, noting it and settling its attempt."""
        job_id = self.some_job(number)
        if job_id is None:
            return
        process = self.running[job_id]
        body = b"made for req %d" % self.count
        assert job_id not in self.answers, "made again though its answer was kept"
        self.stores[process].keep(job_id, Answer(b"application/json", [], body))
        self.answers[job_id] = body
        if dies != "after writing":
            self.stores[process].done(job_id, float(self.count), len(body))
        del self.running[job_id]
        if dies == "no":
            self.billed[job_id] = self.billed.get(job_id, 0) + 1
        else:
            self.die(process)

    @rule(number=st.integers(0, 9))
    def fail(self, number: int) -> None:
        job_id = self.some_job(number)
        if job_id is not None:
            self.stores[self.running.pop(job_id)].failed(job_id, float(self.count), 502, b"{}")

    @rule(process=PROCESSES)
    def die(self, process: int) -> None:
        """A process dies and another takes its place."""
        self.running = {job_id: maker for job_id, maker in self.running.items() if maker != process}
        self.names[process] = f"{'ab'[process]}{self.count + 1}{msgspec.json.encode(self.names).hex()[:6]}"
        self.stores[process].close()
        self.stores[process] = Store(self.directory, ImageTerms())
        self.stores[process].remove_orphans()

    @invariant()
    def a_key_is_made_by_one_and_billed_once(self) -> None:
        makers = [self.key_of[job_id] for job_id in self.running if self.key_of[job_id][0]]
        assert len(makers) == len({key for key, _ in makers})
        bills = [self.key_of[job_id][0] for job_id, times in self.billed.items() for _ in range(times)]
        keyed = [key for key in bills if key]
        assert len(keyed) == len(set(keyed)), "billed twice under one key"


TestAsking = Asking.TestCase
TestAsking.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
