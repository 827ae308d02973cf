"""The engine's thread and the event loop that waits for it: jobs in, tokens out, nothing shared but two queues."""

import asyncio
import queue
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from secondsource.engine.service.jobs import Job, Made
from secondsource.engine.service.load_metrics import LoadMetrics
from secondsource.engine.service.scheduler import Load
from secondsource.engine.service.stepping import Stepper

MOST_WAITING_PER_SLOT = 8
_BROKEN = "the engine failed; see its log"


class FullError(Exception):
    """Too many requests wait already."""


class BrokenError(Exception):
    """The engine has failed and makes no more tokens; its process is about to end."""


class Snapshot(NamedTuple):
    """What the engine was doing after its last step."""

    load: Load
    tokens_held: int


class _Stop(NamedTuple):
    """The thread's order to end."""


class _Cancel(NamedTuple):
    request: int


class _Submit(NamedTuple):
    request: int
    job: Job


_Command = _Submit | _Cancel | _Stop


class Answers:
    """The answers to one client request, as they are made; tokens come in the order of their making."""

    def __init__(self, requests: Sequence[int], cancel: Callable[[int], None]) -> None:
        self._places = {request: place for place, request in enumerate(requests)}
        self._came: asyncio.Queue[Made | None] = asyncio.Queue()  # bounded by the answers' own limits
        self._cancel = cancel

    def put(self, made: Made | None) -> None:
        """Take a token, or None when the engine has broken."""
        self._came.put_nowait(made)

    def leave(self, request: int) -> None:
        """Want no more tokens of one answer: its slot is free at once."""
        if self._places.pop(request, None) is not None:
            self._cancel(request)

    def leave_all(self) -> None:
        """Want no more tokens at all."""
        for request in tuple(self._places):
            self.leave(request)

    async def __aiter__(self) -> AsyncIterator[tuple[int, Made]]:
        """Give each token with the place of its job, until all answers are whole; raises BrokenError."""
        while self._places:
            made = await self._came.get()
            if made is None:
                raise BrokenError(_BROKEN)
            place = self._places.get(made.request)
            if place is None:
                continue  # left meanwhile
            if made.finish is not None:
                del self._places[made.request]
            yield place, made


class _Open:
    """An answer under way, and when it last moved."""

    __slots__ = ("answers", "began", "last", "prompt_tokens")

    def __init__(self, answers: Answers, prompt_tokens: int, now: float) -> None:
        self.answers = answers
        self.prompt_tokens = prompt_tokens
        self.began = now
        self.last = 0.0  # no token yet


class Serving:
    """Owns the thread that steps the engine, and who waits for which answer. Called from one event loop."""

    def __init__(self, stepper: Stepper, metrics: LoadMetrics, *, slots: int) -> None:
        self._stepper = stepper
        self._metrics = metrics
        self._most_open = slots * (1 + MOST_WAITING_PER_SLOT)
        self._commands: queue.SimpleQueue[_Command] = queue.SimpleQueue()
        self._open: dict[int, _Open] = {}
        self._numbers = 0
        self.broken = False  # the engine has failed, or was told to end
        self.snapshot = Snapshot(Load(waiting=0, running=0), 0)

    async def run(self) -> None:
        """Step the engine in a thread of its own until cancelled; raises what broke it."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, "engine") as pool:
            try:
                await loop.run_in_executor(pool, self._work, loop)
            finally:
                self.broken = True
                self._commands.put(_Stop())
                for one in self._open.values():
                    one.answers.put(None)

    def begin(self, jobs: Sequence[Job]) -> Answers:
        """Queue jobs and return their answers, whose `leave_all` must be called in the end.

        Raises FullError when too many wait already, BrokenError when the engine has failed.
        """
        if self.broken:
            raise BrokenError(_BROKEN)
        if len(self._open) + len(jobs) > self._most_open:
            raise FullError
        requests = range(self._numbers, self._numbers + len(jobs))
        self._numbers += len(jobs)
        answers = Answers(requests, self._cancel)
        for request, job in zip(requests, jobs, strict=True):
            self._open[request] = _Open(answers, len(job.prompt), time.monotonic())
            self._commands.put(_Submit(request, job))
        return answers

    def _cancel(self, request: int) -> None:
        if self._open.pop(request, None) is not None:
            self._commands.put(_Cancel(request))

    def _deliver(self, made: Sequence[Made], snapshot: Snapshot) -> None:
        """Hand tokens to who waits for them; in the event loop."""
        self.snapshot = snapshot
        now = time.monotonic()
        for token in made:
            one = self._open.get(token.request)
            if one is None:
                continue  # its client left while this step ran
            self._count(one, token, now)
            one.answers.put(token)
            if token.finish is not None:
                del self._open[token.request]

    def _count(self, one: _Open, token: Made, now: float) -> None:
        if one.last:
            self._metrics.next_token(now - one.last)
        else:
            self._metrics.first_token(now - one.began, one.prompt_tokens)
        one.last = now
        if token.finish is not None:
            self._metrics.finished(token.finish, now - one.began)

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        """Step until told to stop; in the engine's thread, which alone touches the stepper."""
        load = self._stepper.load
        while self._obey(wait=load.running + load.waiting == 0):
            made = self._stepper.step()
            load = self._stepper.load
            loop.call_soon_threadsafe(self._deliver, made, Snapshot(load, self._stepper.tokens_held))

    def _obey(self, *, wait: bool) -> bool:
        """Carry out the commands that have come, waiting for one if told to; False when the thread is to end."""
        while wait or not self._commands.empty():
            command = self._commands.get()
            wait = False
            if isinstance(command, _Stop):
                return False
            if isinstance(command, _Cancel):
                self._stepper.cancel(command.request)
            else:
                self._stepper.submit(command.request, command.job)
        return True
