"""A replica in virtual time with the queueing of a real one: prompts one after another, answers together.

Prompts are read in the order they came, at a fixed speed. Answers are written side by side, each at one token a step,
and a step takes the longer the more of them there are, so that throughput rises with the batch and flattens.
`SharingReplica` does both on one processor.
"""

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

BYTES_PER_TOKEN = 4
Schedule = Callable[[float, Callable[[], None]], None]


@dataclass
class Job:
    """One request at the replica."""

    prompt_tokens: int
    output_tokens: int
    first_token: Callable[[], None]
    done: Callable[[], None]


@dataclass
class SimulatedReplica:
    """Slots, a speed with prompts in tokens per second, and a step's time in seconds by the size of the batch."""

    at: Schedule
    clock: Callable[[], float]
    slots: int
    prompt_tokens_per_s: float = 20_000.0
    step_s: float = 0.008
    step_per_answer_s: float = 0.0005
    in_flight: int = 0
    tokens_ahead: int = 0  # of prompts not read yet
    tokens_written: int = 0
    _prompts: deque[Job] = field(default_factory=deque)
    _reading: bool = False
    _answers: list[tuple[float, int, Job]] = field(default_factory=list)
    _steps: float = 0.0  # decode steps since the start
    _since: float = 0.0
    _version: int = 0
    _order: "itertools.count[int]" = field(default_factory=itertools.count)

    def start(self, job: Job) -> None:
        """Take a request in."""
        assert self.in_flight < self.slots, "more requests than slots"
        self.in_flight += 1
        self.tokens_ahead += job.prompt_tokens
        self._prompts.append(job)
        self._read()

    def _read(self) -> None:
        if self._reading or not self._prompts:
            return
        self._reading = True
        job = self._prompts.popleft()
        self.at(self.clock() + job.prompt_tokens / self.prompt_tokens_per_s, lambda: self._has_read(job))

    def _has_read(self, job: Job) -> None:
        self._reading = False
        self.tokens_ahead -= job.prompt_tokens
        job.first_token()
        self._advance()
        heapq.heappush(self._answers, (self._steps + job.output_tokens, next(self._order), job))
        self._plan()
        self._read()

    def _advance(self) -> None:
        now = self.clock()
        if self._answers:
            self._steps += (now - self._since) / self._step()
        self._since = now

    def _step(self) -> float:
        return self.step_s + self.step_per_answer_s * len(self._answers)

    def _plan(self) -> None:
        self._version += 1
        if self._answers:
            version = self._version
            wait = max(self._answers[0][0] - self._steps, 0.0) * self._step()
            self.at(self.clock() + wait, lambda: self._has_written(version))

    def _has_written(self, version: int) -> None:
        if version != self._version:
            return  # the batch has changed since
        self._advance()
        _, _, job = heapq.heappop(self._answers)
        self.tokens_written += job.output_tokens
        self.in_flight -= 1
        self._plan()
        job.done()


READS_AT_ONCE = 512  # tokens of prompts in one step, as llama.cpp does


@dataclass
class _Running:
    job: Job
    unread: int
    unwritten: int


@dataclass
class SharingReplica(SimulatedReplica):
    """A replica that reads and writes on one processor, as llama.cpp does: what it reads, nobody's answer gets.

    A step writes a token of each answer and reads, in the order they came, as many tokens of prompts as fit.
    """

    _jobs: list[_Running] = field(default_factory=list)
    _stepping: bool = False

    def start(self, job: Job) -> None:
        """Take a request in; it is looked at when the step under way is done."""
        assert self.in_flight < self.slots, "more requests than slots"
        self.in_flight += 1
        self.tokens_ahead += job.prompt_tokens
        self._jobs.append(_Running(job, job.prompt_tokens, job.output_tokens))
        if not self._stepping:
            self._take_step()

    def _take_step(self) -> None:
        self._stepping = bool(self._jobs)
        if not self._jobs:
            return
        writing = [one for one in self._jobs if not one.unread]
        room, read = READS_AT_ONCE - len(writing), []
        for one in self._jobs:
            tokens = min(one.unread, room)
            if tokens:
                room -= tokens
                read.append((one, tokens))
        read_s = sum(tokens for _, tokens in read) / self.prompt_tokens_per_s
        took_s = self.step_s + self.step_per_answer_s * len(writing) + read_s
        self.at(self.clock() + took_s, lambda: self._has_stepped(writing, read))

    def _has_stepped(self, writing: list[_Running], read: list[tuple[_Running, int]]) -> None:
        for one, tokens in read:
            one.unread -= tokens
            self.tokens_ahead -= tokens
            if not one.unread:
                one.unwritten -= 1
                one.job.first_token()
        for one in writing:
            one.unwritten -= 1
        ended = [one for one in self._jobs if not one.unread and one.unwritten <= 0]
        self._jobs = [one for one in self._jobs if one.unread or one.unwritten > 0]
        for one in ended:
            self.tokens_written += one.job.output_tokens
            self.in_flight -= 1
        for one in ended:
            one.job.done()
        self._take_step()
