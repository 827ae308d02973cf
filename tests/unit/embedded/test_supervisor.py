"""The supervisor, over small processes that behave as they are told."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from secondsource.core.errors import SecondsourceError
from secondsource.embedded.default_fleet import Sizing
from secondsource.embedded.restart_policy import RestartPolicy
from secondsource.embedded.supervisor import (
    SourceChange,
    SourceSpec,
    SourceState,
    Supervisor,
    engine_source,
    llamacpp_source,
)

SERVES = """
import sys
print('{"url": "http://127.0.0.1:1"}', flush=True)
sys.stdin.read()
"""
IGNORES_EVERYTHING = """
import signal, sys, time
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
print('{"url": "http://127.0.0.1:1"}', flush=True)
time.sleep(600)
"""
SILENT = "import sys; sys.stdin.read()"
SILENT_AND_STUBBORN = "import time; time.sleep(600)"
CANNOT = """
import sys
print('no such tensor', file=sys.stderr)
print('{"problem": "the model is broken"}', flush=True)
sys.exit(1)
"""
SAYS_NONSENSE = "print('hello', flush=True)"
PORT_TAKEN_ONCE = """
import pathlib, sys
mark = pathlib.Path(sys.argv[1])
if not mark.exists():
    mark.write_text('')
    print('{"problem": "port 1 is taken", "port_taken": true}', flush=True)
    sys.exit(1)
print('{"url": "http://127.0.0.1:1"}', flush=True)
sys.stdin.read()
"""
QUICK = RestartPolicy(base_s=0.05, cap_s=0.2, healthy_after_s=60.0)


class Watched:
    """Keeps the changes of a supervisor's sources, and waits for them."""

    def __init__(self) -> None:
        self.changes: list[SourceChange] = []
        self._changed = asyncio.Event()

    def on_change(self, change: SourceChange) -> None:
        self.changes.append(change)
        self._changed.set()

    def of(self, name: str, state: SourceState) -> list[SourceChange]:
        return [change for change in self.changes if (change.name, change.state) == (name, state)]

    async def until(self, name: str, state: SourceState, times: int) -> SourceChange:
        async with asyncio.timeout(30):
            while len(self.of(name, state)) < times:
                self._changed.clear()
                await self._changed.wait()
        return self.of(name, state)[-1]


Start = Callable[..., Awaitable[Supervisor]]


@pytest.fixture
def watched() -> Watched:
    return Watched()


@pytest.fixture
async def start(tmp_path: Path, watched: Watched) -> AsyncIterator[Start]:
    async with contextlib.AsyncExitStack() as running:

        async def started(*scripts: str, ready_within_s: float = 20.0, stop_within_s: float = 5.0) -> Supervisor:
            sources = [
                SourceSpec(
                    name=name,
                    port=1,
                    command=(sys.executable, "-c", script, str(tmp_path / "mark")),
                    log=tmp_path / f"{name}.log",
                )
                for name, script in zip("ab", scripts, strict=False)
            ]
            supervisor = Supervisor(
                sources,
                watched.on_change,
                ready_within_s=ready_within_s,
                stop_within_s=stop_within_s,
                policy=QUICK,
            )
            running.push_async_callback(supervisor.stop)
            await supervisor.start()
            return supervisor

        yield started


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_it_starts_all_and_stops_all(start: Start, watched: Watched) -> None:
    supervisor = await start(SERVES, SERVES)
    await asyncio.gather(*(watched.until(name, SourceState.READY, 1) for name in "ab"))
    pids = [watched.of(name, SourceState.READY)[0].pid for name in "ab"]
    assert all(map(is_alive, pids))
    await supervisor.stop()
    assert not any(map(is_alive, pids))
    assert len(watched.of("a", SourceState.STOPPED)) == len(watched.of("b", SourceState.STOPPED)) == 1


async def test_a_killed_source_comes_back_and_the_other_is_left_alone(start: Start, watched: Watched) -> None:
    await start(SERVES, SERVES)
    await asyncio.gather(*(watched.until(name, SourceState.READY, 1) for name in "ab"))
    first = watched.of("a", SourceState.READY)[0]
    os.kill(first.pid, signal.SIGKILL)
    second = await watched.until("a", SourceState.READY, 2)
    assert second.pid != first.pid
    (death,) = watched.of("a", SourceState.DIED)
    assert "SIGKILL" in death.detail
    assert "at once on port 1" in death.detail
    assert len(watched.of("b", SourceState.STARTING)) == 1


async def test_a_source_that_dies_again_is_waited_with(start: Start, watched: Watched) -> None:
    await start(SERVES)
    for times in (1, 2):
        ready = await watched.until("a", SourceState.READY, times)
        os.kill(ready.pid, signal.SIGKILL)
    await watched.until("a", SourceState.READY, 3)
    at_once, waited = watched.of("a", SourceState.DIED)
    assert "at once" in at_once.detail
    assert "again in 0." in waited.detail


async def test_a_source_that_will_not_end_is_killed(start: Start, watched: Watched) -> None:
    supervisor = await start(IGNORES_EVERYTHING, stop_within_s=0.3)
    pid = watched.of("a", SourceState.READY)[0].pid
    async with asyncio.timeout(10):
        await supervisor.stop()
    assert not is_alive(pid)
    assert "SIGKILL" in watched.of("a", SourceState.STOPPED)[0].detail


async def test_it_serves_as_soon_as_one_source_does(start: Start, watched: Watched) -> None:
    supervisor = await start(SERVES, SILENT)
    assert supervisor.starting == {"b"}
    assert len(watched.of("a", SourceState.READY)) == 1
    await supervisor.stop()
    assert not any(change.pid and is_alive(change.pid) for change in watched.changes)


async def test_a_source_that_cannot_start_is_told_and_left_out(start: Start, watched: Watched) -> None:
    supervisor = await start(SERVES, CANNOT)
    failure = await watched.until("b", SourceState.FAILED, 1)
    assert "b could not start: the model is broken" in failure.detail
    assert "no such tensor" in failure.detail
    assert supervisor.starting == frozenset()
    assert is_alive(watched.of("a", SourceState.READY)[0].pid)


async def test_sources_none_of_which_can_start_are_an_error_that_says_why(start: Start, watched: Watched) -> None:
    with pytest.raises(SecondsourceError) as caught:
        await start(CANNOT, CANNOT)
    assert "a could not start: the model is broken" in str(caught.value)
    for change in watched.changes:
        assert not change.pid or not is_alive(change.pid)


async def test_a_source_that_needs_longer_is_given_longer(tmp_path: Path, watched: Watched) -> None:
    slow = 'import sys, time; time.sleep(1.2); print(\'{"url": "http://127.0.0.1:1"}\', flush=True); sys.stdin.read()'
    quick, patient = [
        SourceSpec(name=name, port=1, command=(sys.executable, "-c", script), log=tmp_path / name, ready_within_s=wait)
        for name, script, wait in (("a", SERVES, None), ("b", slow, 30.0))
    ]
    supervisor = Supervisor([quick, patient], watched.on_change, ready_within_s=1.0)
    await supervisor.start()
    await supervisor.settle()
    assert len(watched.of("b", SourceState.READY)) == 1
    assert watched.of("b", SourceState.DIED) == []
    await supervisor.stop()


async def test_a_source_that_announces_nonsense_cannot_start(start: Start) -> None:
    with pytest.raises(SecondsourceError, match="hello"):
        await start(SAYS_NONSENSE)


async def test_a_source_whose_program_is_absent_cannot_start(tmp_path: Path, watched: Watched) -> None:
    source = SourceSpec(name="a", port=1, command=("/no/such/program",), log=tmp_path / "a.log")
    supervisor = Supervisor([source], watched.on_change)
    with pytest.raises(SecondsourceError, match="could not be started"):
        await supervisor.start()


async def test_a_silent_source_is_given_up_at_the_deadline(start: Start, watched: Watched) -> None:
    with pytest.raises(SecondsourceError, match="not ready within"):
        await start(SILENT, ready_within_s=0.5)
    assert not is_alive(watched.of("a", SourceState.STARTING)[0].pid)


async def test_a_stop_while_a_source_is_being_ended_waits_for_its_end(tmp_path: Path, watched: Watched) -> None:
    command = (sys.executable, "-c", SILENT_AND_STUBBORN)
    source = SourceSpec(name="a", port=1, command=command, log=tmp_path / "a.log")
    supervisor = Supervisor([source], watched.on_change, ready_within_s=1.0, stop_within_s=1.0)
    starting = asyncio.create_task(supervisor.start())
    pid = (await watched.until("a", SourceState.STARTING, 1)).pid
    # Its own deadline and the whole start's come together; this cancels a third time, in the middle of it.
    await asyncio.sleep(1.3)
    starting.cancel()
    with pytest.raises((asyncio.CancelledError, SecondsourceError)):
        await starting
    await supervisor.stop()
    assert not is_alive(pid)


async def test_a_stolen_port_is_told_and_tried_again(start: Start, watched: Watched) -> None:
    await start(PORT_TAKEN_ONCE)
    (told,) = watched.of("a", SourceState.DIED)
    assert "port 1 is taken" in told.detail
    assert len(watched.of("a", SourceState.READY)) == 1


async def test_an_interrupted_start_leaves_no_process(start: Start, watched: Watched) -> None:
    starting = asyncio.create_task(start(SILENT, SILENT))
    await watched.until("b", SourceState.STARTING, 1)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    for change in watched.changes:
        assert not change.pid or not is_alive(change.pid)


@pytest.mark.parametrize(("make", "module"), [(llamacpp_source, "llamacpp_server"), (engine_source, "engine_server")])
def test_a_source_runs_our_module_with_its_sizing(make: Callable[..., SourceSpec], module: str) -> None:
    source = make(
        name="local-a",
        port=20001,
        model=Path("/models/m.gguf"),
        alias="m",
        sizing=Sizing(slots=8, context_per_slot=4096, threads=3),
        log=Path("/state/local-a.log"),
    )
    words = list(source.command)
    assert words[:3] == [sys.executable, "-m", f"secondsource.embedded.{module}"]
    for flag, value in (("--slots", "8"), ("--context-per-slot", "4096"), ("--threads", "3"), ("--port", "20001")):
        assert words[words.index(flag) + 1] == value
