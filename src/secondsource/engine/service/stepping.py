"""One engine, one step at a time: what the scheduler says, done by the runner, sampled. Single-threaded."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from secondsource.engine.service import sampler
from secondsource.engine.service.jobs import Job, Made, Sampling
from secondsource.engine.service.sampler import Marks, Sampled, Settings
from secondsource.engine.service.scheduler import Decode, Load, Prefill, Scheduler

_DTYPES = Settings(
    temperature=np.float32,
    top_k=np.int32,
    top_p=np.float32,
    min_p=np.float32,
    repetition_penalty=np.float32,
    presence_penalty=np.float32,
    frequency_penalty=np.float32,
    seed=np.uint32,
    marked=np.bool_,
    wants_logprobs=np.bool_,
)
_NOBODY = Sampling(temperature=0.0)


class LogitsRunner(Protocol):
    """What is needed of `runner.Runner`: tokens in, logits out."""

    def prefill(self, slot: int, start: int, tokens: Sequence[int]) -> jax.Array:
        """Read tokens at positions `start`, … of `slot`; logits [1, V] after the last."""

    def decode(self, tokens: jax.Array, positions: np.ndarray, active: np.ndarray) -> jax.Array:
        """Read one token in each active slot; logits [slots, V], or [1, V] where one slot alone is active."""


class _Answer:
    """An answer under way: how many tokens it has been asked for, and how many have been told."""

    __slots__ = ("asked", "job", "made")

    def __init__(self, job: Job) -> None:
        self.job = job
        self.asked = 0
        self.made = 0


class _Ahead(NamedTuple):
    """A step that the device has been given, and whose result nobody has looked at."""

    result: jax.Array  # what to wait for
    found: Sampled | None  # None: a part of a prompt, after which nothing is sampled
    rows: tuple[tuple[int, int], ...]  # row of `found` and request


class Stepper:
    """Owns the runner, the slots' sampling state and the scheduler; everything is called by one thread.

    It runs ahead by one: each step is given to the device before the last one's tokens are looked at, so that the
    device computes while tokens are told. The tokens themselves go from step to step on the device. Where a token
    turns out to end an answer, what the step after it made of that answer is thrown away; the slot's next prompt is
    read over it, as the device takes its steps in order.
    """

    def __init__(self, runner: LogitsRunner, *, slots: int, vocabulary: int, chunk_tokens: int) -> None:
        self._runner = runner
        self._slots = slots
        self._scheduler = Scheduler(slots=slots, chunk_tokens=chunk_tokens)
        self._answers: dict[int, _Answer] = {}
        self._ahead: _Ahead | None = None
        self._tokens = jnp.zeros(slots, jnp.int32)  # the last token of each slot's answer, not read yet
        self._positions = np.zeros(slots, np.int32)  # where it stands
        self._settings = Settings(*(np.zeros(slots, dtype) for dtype in _DTYPES))
        for slot in range(slots):
            self._set_row(slot, _NOBODY)
        self._marks = sampler.empty_marks(slots, vocabulary)
        self._no_marks = sampler.empty_marks(1, vocabulary)
        self._sample = jax.jit(sampler.sample_slots)
        self._begin_row = jax.jit(sampler.begin_row, donate_argnums=0)
        self._note_tokens = jax.jit(sampler.note_tokens, donate_argnums=0)
        self._one_row = jax.jit(lambda marks, slot: jax.tree.map(lambda rows: rows[slot][None], marks))
        self._vocabulary = vocabulary

    @property
    def load(self) -> Load:
        """How busy the engine is; an answer whose last token is under way still runs, though its slot is free."""
        waiting = self._scheduler.load.waiting
        return Load(waiting=waiting, running=len(self._answers) - waiting)

    @property
    def tokens_held(self) -> int:
        """How many tokens lie in the slots of requests that run."""
        return sum(len(answer.job.prompt) + answer.made for answer in self._answers.values())

    def submit(self, request: int, job: Job) -> None:
        """Take a job under a number of the caller's own, which was no other job's."""
        self._answers[request] = _Answer(job)
        self._scheduler.submit(request, len(job.prompt))

    def cancel(self, request: int) -> None:
        """Forget a job; its slot is free at once. One that has finished is none."""
        self._answers.pop(request, None)
        self._leave_slot(request)

    def warm_up(self) -> None:
        """Compile every function of sampling, before the first request needs it."""
        logits = jnp.zeros((self._slots, self._vocabulary), jnp.float32)
        nobody = np.full(self._slots, self._slots, np.int32)
        self._sampled(logits, self._marks, nobody)
        self._sampled(logits[:1], self._one_row(self._marks, 0), nobody[:1])
        self._begin_marks(0, Job(prompt=(0,), most_tokens=1))
        idle = np.zeros(self._slots, np.bool_)
        self._marks = self._note_tokens(self._marks, self._tokens, idle)

    def step(self) -> list[Made]:
        """Give the device its next piece of work, and return the tokens of the one before; often there are none."""
        work = self._scheduler.next()
        before, self._ahead = self._ahead, None
        if isinstance(work, Prefill):
            self._ahead = self._read(work)
        elif isinstance(work, Decode):
            self._ahead = self._decode(work)
        return [] if before is None else self._told(before)

    def _read(self, work: Prefill) -> _Ahead:
        job = self._answers[work.request].job
        logits = self._runner.prefill(work.slot, work.start, job.prompt[work.start : work.end])
        if not work.last:
            return _Ahead(logits, None, ())
        self._set_row(work.slot, job.sampling)
        if job.sampling.marks_rows:
            self._begin_marks(work.slot, job)
        self._positions = self._positions.copy()  # a step that is under way may be reading the old ones
        self._positions[work.slot] = work.end
        return self._made(logits, ((work.slot, work.request),))

    def _decode(self, work: Decode) -> _Ahead:
        active = np.zeros(self._slots, np.bool_)
        active[[slot for slot, _ in work.running]] = True
        logits = self._runner.decode(self._tokens, self._positions, active)
        self._positions = self._positions + active
        return self._made(logits, work.running)

    def _made(self, logits: jax.Array, running: tuple[tuple[int, int], ...]) -> _Ahead:
        """Sample a token for each (slot, request); the slot of an answer that wants no more after it is free."""
        slots = [slot for slot, _ in running]
        marked = [slot for slot, request in running if self._answers[request].job.sampling.marks_rows]
        if len(logits) == 1:
            marks = self._one_row(self._marks, slots[0]) if marked else self._no_marks
            found = self._sampled(logits, marks, np.array(slots, np.int32))
            rows: tuple[tuple[int, int], ...] = ((0, running[0][1]),)
        else:
            places = np.full(self._slots, self._slots, np.int32)
            places[slots] = slots
            found = self._sampled(logits, self._marks, places)
            rows = running
        if marked:
            noted = np.zeros(self._slots, np.bool_)
            noted[marked] = True
            self._marks = self._note_tokens(self._marks, self._tokens, noted)
        for _, request in running:
            answer = self._answers[request]
            answer.asked += 1
            if answer.asked >= answer.job.most_tokens:
                self._leave_slot(request)
        return _Ahead(found.tokens, found, rows)

    def _sampled(self, logits: jax.Array, marks: Marks, slots: np.ndarray) -> Sampled:
        found: Sampled
        found, self._tokens = self._sample(logits, self._settings, marks, self._positions, self._tokens, slots)
        return found

    def _told(self, step: _Ahead) -> list[Made]:
        """Wait for a step; return its tokens, and end the answers that are whole."""
        if step.found is None:
            step.result.block_until_ready()
            return []
        tokens = np.asarray(step.found.tokens)
        wanted = [(row, request) for row, request in step.rows if request in self._answers]  # else it ended meanwhile
        logprobs = any(self._answers[request].job.sampling.logprobs for _, request in wanted)
        told = jax.device_get(step.found) if logprobs else None
        made = []
        for row, request in wanted:
            answer = self._answers[request]
            token = int(tokens[row])
            answer.made += 1
            logprob, top = _logprobs(told, row) if told is not None and answer.job.sampling.logprobs else (0.0, ())
            finish = _finish(answer, token)
            made.append(Made(request, token, logprob, top, finish))
            if finish is not None:
                self.cancel(request)
        return made

    def _leave_slot(self, request: int) -> None:
        slot = self._scheduler.remove(request)
        if slot is not None:
            self._set_row(slot, _NOBODY)  # else the sampler would go on doing what nobody wants any more

    def _set_row(self, slot: int, sampling: Sampling) -> None:
        row = Settings(
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            top_p=sampling.top_p,
            min_p=sampling.min_p,
            repetition_penalty=sampling.repetition_penalty,
            presence_penalty=sampling.presence_penalty,
            frequency_penalty=sampling.frequency_penalty,
            seed=sampling.seed,
            marked=sampling.marks_rows,
            wants_logprobs=sampling.logprobs,
        )
        changed = Settings(*(array.copy() for array in self._settings))  # a step under way may be reading the old ones
        for array, value in zip(changed, row, strict=True):
            array[slot] = value
        self._settings = changed

    def _begin_marks(self, slot: int, job: Job) -> None:
        prompt = np.zeros(self._vocabulary, np.bool_)
        prompt[list(job.prompt)] = True
        bias = np.zeros(self._vocabulary, np.float32)
        for token, value in job.sampling.bias:
            bias[token] = value
        made = np.zeros(self._vocabulary, np.int32)
        self._marks = self._begin_row(self._marks, slot, prompt, made, bias)


def _finish(answer: _Answer, token: int) -> str | None:
    if token in answer.job.ends:
        return "stop"
    return "length" if answer.made >= answer.job.most_tokens else None


def _logprobs(found: Sampled, row: int) -> tuple[float, tuple[tuple[int, float], ...]]:
    top = zip(found.top_tokens[row].tolist(), found.top_logprobs[row].tolist(), strict=True)
    return float(found.logprobs[row]), tuple(top)
