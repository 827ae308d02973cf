"""One engine, one step at a time: what the scheduler says, done by the runner, sampled. Single-threaded."""

from collections.abc import Sequence
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from secondsource.engine.service import sampler
from secondsource.engine.service.jobs import Job, Made, Sampling
from secondsource.engine.service.sampler import Sampled, Settings
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

    def decode(self, tokens: np.ndarray, positions: np.ndarray, active: np.ndarray) -> jax.Array:
        """Read one token in each active slot; logits [slots, V]."""


class _Answer:
    """An answer under way."""

    __slots__ = ("job", "made")

    def __init__(self, job: Job) -> None:
        self.job = job
        self.made = 0


class Stepper:
    """Owns the runner, the slots' sampling state and the scheduler; everything is called by one thread."""

    def __init__(self, runner: LogitsRunner, *, slots: int, vocabulary: int, chunk_tokens: int) -> None:
        self._runner = runner
        self._slots = slots
        self._scheduler = Scheduler(slots=slots, chunk_tokens=chunk_tokens)
        self._answers: dict[int, _Answer] = {}
        self._tokens = np.zeros(slots, np.int32)  # the last token of each slot's answer, not read yet
        self._positions = np.zeros(slots, np.int32)  # where it stands
        self._settings = Settings(*(np.zeros(slots, dtype) for dtype in _DTYPES))
        for slot in range(slots):
            self._set_row(slot, _NOBODY)
        self._marks = sampler.empty_marks(slots, vocabulary)
        self._no_marks = sampler.empty_marks(1, vocabulary)
        self._sample = jax.jit(sampler.sample)
        self._begin_row = jax.jit(sampler.begin_row, donate_argnums=0)
        self._note_tokens = jax.jit(sampler.note_tokens, donate_argnums=0)
        self._one_row = jax.jit(lambda marks, slot: jax.tree.map(lambda rows: rows[slot][None], marks))
        self._vocabulary = vocabulary

    @property
    def load(self) -> Load:
        """How busy the engine is."""
        return self._scheduler.load

    @property
    def tokens_held(self) -> int:
        """How many tokens lie in the slots of requests that run."""
        return sum(len(answer.job.prompt) + answer.made for answer in self._answers.values())

    def submit(self, request: int, job: Job) -> None:
        """Take a job under a number of the caller's own."""
        self._answers[request] = _Answer(job)
        self._scheduler.submit(request, len(job.prompt))

    def cancel(self, request: int) -> None:
        """Forget a job; its slot is free at once. One that has finished is none."""
        slot = self._scheduler.remove(request)
        self._answers.pop(request, None)
        if slot is not None:
            self._set_row(slot, _NOBODY)  # else the sampler would go on doing what nobody wants any more

    def warm_up(self) -> None:
        """Compile every function of sampling, before the first request needs it."""
        logits = jnp.zeros((self._slots, self._vocabulary), jnp.float32)
        self._sample(logits, self._settings, self._marks, self._positions)
        one = Settings(*(array[:1] for array in self._settings))
        self._sample(logits[:1], one, self._one_row(self._marks, 0), self._positions[:1])
        self._begin_marks(0, Job(prompt=(0,), most_tokens=1))
        idle = np.zeros(self._slots, np.bool_)
        self._marks = self._note_tokens(self._marks, self._tokens, idle)

    def step(self) -> list[Made]:
        """Do the next piece of work; return the tokens it made, none when there was nothing to do."""
        work = self._scheduler.next()
        if isinstance(work, Prefill):
            return self._read(work)
        if isinstance(work, Decode):
            return self._decode(work)
        return []

    def _read(self, work: Prefill) -> list[Made]:
        job = self._answers[work.request].job
        logits = self._runner.prefill(work.slot, work.start, job.prompt[work.start : work.end])
        if not work.last:
            return []
        self._set_row(work.slot, job.sampling)
        marked = job.sampling.marks_rows
        if marked:
            self._begin_marks(work.slot, job)
        marks = self._one_row(self._marks, work.slot) if marked else self._no_marks
        row = slice(work.slot, work.slot + 1)
        self._positions[row] = work.end
        settings = Settings(*(array[row] for array in self._settings))
        found = self._sample(logits, settings, marks, self._positions[row])
        return self._took(found, ((0, work.slot, work.request),))

    def _decode(self, work: Decode) -> list[Made]:
        active = np.zeros(self._slots, np.bool_)
        for slot, _ in work.running:
            active[slot] = True
        logits = self._runner.decode(self._tokens, self._positions, active)
        self._positions = self._positions + active  # a new array: the step may still be reading the old one
        found = self._sample(logits, self._settings, self._marks, self._positions)
        return self._took(found, tuple((slot, slot, request) for slot, request in work.running))

    def _took(self, found: Sampled, rows: Sequence[tuple[int, int, int]]) -> list[Made]:
        """Note the tokens of (row of `found`, slot, request), and end the answers that are whole."""
        tokens = np.asarray(found.tokens)
        wanted = any(self._answers[request].job.sampling.logprobs for _, _, request in rows)
        told = jax.device_get(found) if wanted else None
        noted = np.zeros(self._slots, np.bool_)
        made = []
        for row, slot, request in rows:
            answer = self._answers[request]
            token = int(tokens[row])
            answer.made += 1
            self._tokens[slot] = token
            noted[slot] = answer.job.sampling.marks_rows
            logprob, top = _logprobs(told, row) if told is not None and answer.job.sampling.logprobs else (0.0, ())
            finish = _finish(answer, token)
            made.append(Made(request, token, logprob, top, finish))
            if finish is not None:
                self.cancel(request)
        if noted.any():
            self._marks = self._note_tokens(self._marks, self._tokens.copy(), noted)
        return made

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
        for array, value in zip(self._settings, row, strict=True):
            array[slot] = value

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
