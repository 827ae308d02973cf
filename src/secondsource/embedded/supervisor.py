"""Keeps the sources of the embedded default alive: starts them, restarts the dead, stops them all."""

import asyncio
import contextlib
import random
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from enum import StrEnum
from pathlib import Path

import msgspec

from secondsource.core.errors import SecondsourceError
from secondsource.embedded.child import Announcement
from secondsource.embedded.default_fleet import Sizing
from secondsource.embedded.restart_policy import RestartHistory, RestartPolicy, after_death

_LOG_TAIL_LINES = 3
_COMPILED_WITHIN_S = 600.0


class SourceSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A source to keep alive. The command announces itself on standard output (see `Announcement`)."""

    name: str
    port: int
    command: tuple[str, ...]
    log: Path
    ready_within_s: float | None = None  # None: as long as the supervisor gives each


class SourceState(StrEnum):
    """Where a source is in its life."""

    STARTING = "starting"
    READY = "ready"
    DIED = "died"  # and will be started again
    FAILED = "failed"  # it could not start at all, and is not tried again
    STOPPED = "stopped"


class SourceChange(msgspec.Struct, frozen=True, kw_only=True):
    """A source went into a state; `detail` is for people."""

    name: str
    state: SourceState
    pid: int
    detail: str


def llamacpp_source(*, name: str, port: int, model: Path, alias: str, sizing: Sizing, log: Path) -> SourceSpec:
    """Return the source that runs llama.cpp's server with this interpreter."""
    return _own_source("llamacpp_server", name, port, model, alias, sizing, log)


def engine_source(*, name: str, port: int, model: Path, alias: str, sizing: Sizing, log: Path) -> SourceSpec:
    """Return the source that runs our own engine with this interpreter; it compiles before it serves."""
    source = _own_source("engine_server", name, port, model, alias, sizing, log)
    return msgspec.structs.replace(source, ready_within_s=_COMPILED_WITHIN_S)


def _own_source(module: str, name: str, port: int, model: Path, alias: str, sizing: Sizing, log: Path) -> SourceSpec:
    command = [sys.executable, "-m", f"secondsource.embedded.{module}"]
    command += ["--model", str(model), "--port", str(port), "--alias", alias, "--log", str(log)]
    command += ["--slots", str(sizing.slots), "--context-per-slot", str(sizing.context_per_slot)]
    command += ["--threads", str(sizing.threads)]
    return SourceSpec(name=name, port=port, command=tuple(command), log=log)


class Supervisor:
    """Owns the processes of the sources: their whole lives, and nothing of what they serve."""

    def __init__(
        self,
        sources: Sequence[SourceSpec],
        on_change: Callable[[SourceChange], None],
        *,
        ready_within_s: float = 60.0,
        stop_within_s: float = 3.0,
        policy: RestartPolicy | None = None,
    ) -> None:
        self._ready_within_s = ready_within_s
        self._keepers = [
            _Keeper(source, on_change, policy or RestartPolicy(), ready_within_s, stop_within_s) for source in sources
        ]
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start all sources and return when the first serves; the others follow in their own time.

        Raises SecondsourceError, with all of them stopped, when none can start or none is ready in time.
        """
        firsts = [keeper.first_ready() for keeper in self._keepers]
        self._tasks = [asyncio.create_task(keeper.keep()) for keeper in self._keepers]
        try:
            async with asyncio.timeout(self._ready_within_s):
                await _first_success(firsts)
        except TimeoutError:
            late = ", ".join(keeper.why_late() for keeper in self._keepers if not keeper.is_ready)
            await self.stop()
            raise SecondsourceError(f"not ready within {self._ready_within_s:.0f} s: {late}") from None
        except BaseException:  # an interrupt too: no process may be left
            await self.stop()
            raise

    async def settle(self) -> None:
        """Wait until every source has served once, or has proved unable to."""
        await asyncio.gather(*(keeper.settle() for keeper in self._keepers))

    @property
    def starting(self) -> frozenset[str]:
        """The names of the sources that have not served yet, and still may."""
        return frozenset(keeper.name for keeper in self._keepers if keeper.is_starting)

    async def stop(self) -> None:
        """End all sources, by force where they do not end by themselves; bounded by `stop_within_s` twice."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []


class _Life(msgspec.Struct, frozen=True, kw_only=True):
    """How one process lived: ready for `served_s` seconds (0: never), and how it ended."""

    served_s: float
    ending: str
    port_taken: bool = False


class _Keeper:
    """Owns one source: one process at a time, always on the same port."""

    def __init__(
        self,
        source: SourceSpec,
        on_change: Callable[[SourceChange], None],
        policy: RestartPolicy,
        ready_within_s: float,
        stop_within_s: float,
    ) -> None:
        self._source = source
        self._on_change = on_change
        self._policy = policy
        self._ready_within_s = source.ready_within_s or ready_within_s
        self._stop_within_s = stop_within_s
        self.name = source.name
        self._first: asyncio.Future[None] | None = None
        self._last_problem = "still loading"
        self.is_ready = False

    def first_ready(self) -> "asyncio.Future[None]":
        """Return what is done when the source serves for the first time, or cannot."""
        self._first = asyncio.get_running_loop().create_future()
        return self._first

    @property
    def is_starting(self) -> bool:
        """Whether the source has not served yet, and still may."""
        return self._first is not None and not self._first.done()

    async def settle(self) -> None:
        """Wait until the source has served once, or has proved unable to."""
        if self._first is not None:
            await asyncio.wait([self._first])

    def why_late(self) -> str:
        """Return the source's name and what is known of why it does not serve."""
        return f"{self._source.name} ({self._last_problem}; log: {self._source.log})"

    async def keep(self) -> None:
        """Live until cancelled, or until the source proves unable to start at all."""
        history = RestartHistory()
        while True:
            life = await self._live_once()
            self._last_problem = life.ending
            first = self._first
            if first is not None and not first.done() and not life.port_taken:
                reason = _cannot_start(self._source, life.ending)
                first.set_exception(reason)
                self._tell(SourceState.FAILED, 0, str(reason))
                return
            history, wait_s = after_death(self._policy, history, life.served_s, random.random())  # noqa: S311
            again = "starting it again at once" if wait_s == 0 else f"starting it again in {wait_s:.1f} s"
            self._tell(SourceState.DIED, 0, f"{life.ending}; {again} on port {self._source.port}")
            await asyncio.sleep(wait_s)

    async def _live_once(self) -> _Life:
        try:
            with self._source.log.open("ab") as log:
                process = await asyncio.create_subprocess_exec(
                    *self._source.command,
                    stdin=asyncio.subprocess.PIPE,  # held open as long as we live; see llamacpp_server
                    stdout=asyncio.subprocess.PIPE,
                    stderr=log,
                    start_new_session=True,  # a Ctrl-C at the terminal is ours to handle
                )
        except OSError as error:
            return _Life(served_s=0.0, ending=f"could not be started: {error}")
        try:
            return await self._accompany(process)
        finally:
            self.is_ready = False
            await _to_its_end(self._end(process))

    async def _accompany(self, process: asyncio.subprocess.Process) -> _Life:
        self._tell(SourceState.STARTING, process.pid, f"on port {self._source.port}")
        try:
            async with asyncio.timeout(self._ready_within_s):
                announcement = await _read_announcement(process)
        except TimeoutError:
            return _Life(served_s=0.0, ending=f"was not ready within {self._ready_within_s:.0f} s")
        if not announcement.url:
            problem = announcement.problem or _describe_exit(await process.wait())
            return _Life(served_s=0.0, ending=problem, port_taken=announcement.port_taken)
        ready_at = time.monotonic()
        self.is_ready = True
        self._tell(SourceState.READY, process.pid, announcement.url)
        if self._first is not None and not self._first.done():
            self._first.set_result(None)
        exit_code = await process.wait()
        return _Life(served_s=time.monotonic() - ready_at, ending=_describe_exit(exit_code))

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        """Let the process end by closing its standard input; kill it if it does not."""
        if process.returncode is not None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(self._stop_within_s):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        self._tell(SourceState.STOPPED, process.pid, _describe_exit(process.returncode or 0))

    def _tell(self, state: SourceState, pid: int, detail: str) -> None:
        self._on_change(SourceChange(name=self._source.name, state=state, pid=pid, detail=detail))


async def _first_success(firsts: Sequence["asyncio.Future[None]"]) -> None:
    """Return when one of `firsts` has succeeded; raises the first failure when none can any more."""
    waiting = set(firsts)
    while waiting:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if any(first.exception() is None for first in done):
            for first in waiting:
                first.add_done_callback(_note_failure)
            return
    for first in firsts:
        first.result()


def _note_failure(first: "asyncio.Future[None]") -> None:
    if not first.cancelled():
        first.exception()  # it has been told as a change; nobody awaits it any more


async def _to_its_end(work: Coroutine[None, None, None]) -> None:
    """Await bounded `work` to its end, whoever cancels meanwhile; the cancellation is raised after it.

    A source may be ending for a reason of its own when a stop is asked for; it must not be left half ended.
    """
    working, cancelled = asyncio.ensure_future(work), False
    while not working.done():
        try:
            await asyncio.shield(working)
        except asyncio.CancelledError:
            cancelled = True
    working.result()
    if cancelled:
        raise asyncio.CancelledError


async def _read_announcement(process: asyncio.subprocess.Process) -> Announcement:
    """Return the process's announcement; an empty one when it ended, or wrote something else."""
    line = await process.stdout.readline() if process.stdout is not None else b""
    try:
        return msgspec.json.decode(line, type=Announcement)
    except msgspec.DecodeError:
        return Announcement(problem=f"announced {line[:80]!r}" if line else "")


def _describe_exit(exit_code: int) -> str:
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    try:
        return f"was ended by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"was ended by signal {-exit_code}"


def _cannot_start(source: SourceSpec, ending: str) -> SecondsourceError:
    try:
        lines = source.log.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:]
    except OSError:
        lines = []
    tail = "".join(f"\n    {line}" for line in lines)
    return SecondsourceError(f"{source.name} could not start: {ending}. Its log, {source.log}, ends:{tail}")
