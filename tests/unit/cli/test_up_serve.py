"""Serving until a signal, over a service that is not there."""

import asyncio
import io
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from random import Random

import pytest
from rich.console import Console

from secondsource.cli.screen import Screen
from secondsource.cli.up_serve import Serving, serve
from secondsource.core.errors import InputError, SecondsourceError
from secondsource.core.fleet import Fleet, Pool, Supplier
from secondsource.core.records import Outcome
from secondsource.embedded.supervisor import SourceSpec
from secondsource.policy.routing import Router

FLEET = Fleet(
    suppliers=(Supplier(name="s"),),
    pools=(Pool(name="p", supplier="s", chip="c", model="m", upstream_model="m", replicas=("http://a:1",)),),
)
SOURCE = """
import sys
print('{"url": "http://127.0.0.1:1"}', flush=True)
sys.stdin.read()
"""


class FakeService:
    """Says what was asked of it."""

    gateway_url = "http://127.0.0.1:8080"
    admin_url = "http://127.0.0.1:8081"

    def __init__(self, *, fails: Exception | None = None) -> None:
        self.calls: list[str] = []
        self.router = Router(FLEET, Random(1))
        self.fleet = FLEET
        self._fails = fails

    async def start(self) -> None:
        self.calls.append("start")
        if self._fails is not None:
            raise self._fails

    async def stop(self, grace: float) -> None:
        self.calls.append("stop")
        assert grace > 0


class Run:
    """One run of `serve`, with what it showed."""

    def __init__(self, service: FakeService, *sources: SourceSpec) -> None:
        self.service = service
        self.shown: list[str] = []
        self.welcomed = asyncio.Event()
        self.written = io.StringIO()
        serving = Serving(fleet=FLEET, make_service=lambda: service, show=self._show, sources=sources)  # type: ignore[arg-type,return-value]
        self.task = asyncio.create_task(serve(serving, Screen(Console(file=self.written))))

    def _show(self, text: str) -> None:
        self.shown.append(text)
        self.welcomed.set()

    async def until_welcomed(self) -> None:
        async with asyncio.timeout(20):
            await self.welcomed.wait()


def source(tmp_path: Path, script: str) -> SourceSpec:
    return SourceSpec(name="local-a", port=1, command=(sys.executable, "-c", script), log=tmp_path / "a.log")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_stops_cleanly(number: signal.Signals) -> None:
    run = Run(FakeService())
    await run.until_welcomed()
    os.kill(os.getpid(), number)
    assert await run.task == 0
    assert run.service.calls == ["start", "stop"]
    assert "Stopped." in run.written.getvalue()


async def test_every_source_is_shown_with_its_state() -> None:
    run = Run(FakeService())
    await run.until_welcomed()
    assert "http://a:1" in run.shown[0]
    assert "serves" in run.shown[0]
    os.kill(os.getpid(), signal.SIGINT)
    await run.task


async def test_sources_run_before_the_service_and_are_stopped_with_it(tmp_path: Path) -> None:
    run = Run(FakeService(), source(tmp_path, SOURCE))
    await run.until_welcomed()
    os.kill(os.getpid(), signal.SIGTERM)
    assert await run.task == 0
    assert run.service.calls == ["start", "stop"]


async def test_a_source_that_comes_back_is_told(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    dies_once = f"import pathlib\nmark = pathlib.Path({str(mark)!r})\nfirst = not mark.exists()\nmark.write_text('')\n"
    dies_once += """import sys, time\nprint('{"url": "http://127.0.0.1:1"}', flush=True)\n"""
    dies_once += "time.sleep(0.2) if first else sys.stdin.read()\n"
    run = Run(FakeService(), source(tmp_path, dies_once))
    await run.until_welcomed()
    async with asyncio.timeout(20):
        while "serves again" not in run.written.getvalue():  # noqa: ASYNC110 -- there is no event to wait for
            await asyncio.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)
    assert await run.task == 0
    assert "starting it again at once" in run.written.getvalue()


async def test_it_serves_while_a_source_still_starts_and_tells_when_it_serves_too(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    slow = f"import pathlib, time\nwhile not pathlib.Path({str(mark)!r}).exists(): time.sleep(0.02)\n" + SOURCE
    second = SourceSpec(name="p", port=1, command=(sys.executable, "-c", slow), log=tmp_path / "b.log")
    service = FakeService()
    (replica,) = service.router.replicas
    run = Run(service, source(tmp_path, SOURCE), second)
    await run.until_welcomed()
    assert "is starting; the others serve meanwhile" in run.shown[0]
    replica.circuit.failed(Outcome.CONNECT_FAILED, time.monotonic() + 100)
    mark.touch()
    async with asyncio.timeout(20):
        while "p serves at" not in run.written.getvalue():  # noqa: ASYNC110 -- there is no event to wait for
            await asyncio.sleep(0.01)
    assert replica.circuit.retry_at <= time.monotonic(), "who serves is asked at once"
    os.kill(os.getpid(), signal.SIGINT)
    assert await run.task == 0


async def test_a_signal_while_sources_load_stops_them_and_starts_no_service(tmp_path: Path) -> None:
    run = Run(FakeService(), source(tmp_path, "import sys; sys.stdin.read()"))
    await asyncio.sleep(0.3)
    os.kill(os.getpid(), signal.SIGINT)
    assert await run.task == 0
    assert run.service.calls == []
    assert run.shown == []


async def test_a_service_that_cannot_start_is_the_error_and_the_sources_are_stopped(tmp_path: Path) -> None:
    run = Run(FakeService(fails=InputError("port 8080 is taken")), source(tmp_path, SOURCE))
    with pytest.raises(InputError, match="port 8080"):
        await run.task
    assert run.service.calls == ["start"]


async def test_a_source_that_cannot_start_is_the_error(tmp_path: Path) -> None:
    run = Run(FakeService(), source(tmp_path, "raise SystemExit(3)"))
    with pytest.raises(SecondsourceError, match="exit code 3"):
        await run.task
    assert run.service.calls == []


STUCK = """
import asyncio, sys
from tests.unit.cli.test_up_serve import FLEET, FakeService
from secondsource.cli.screen import Screen
from secondsource.cli.up_serve import Serving, serve

class Stuck(FakeService):
    async def stop(self, grace):
        print("stopping", flush=True)
        await asyncio.sleep(600)

show = lambda text: print("serving", flush=True)
asyncio.run(serve(Serving(fleet=FLEET, make_service=Stuck, show=show), Screen()))
"""


def test_a_second_signal_stops_at_once() -> None:
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", textwrap.dedent(STUCK)]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        for said in (b"serving\n", b"stopping\n"):
            assert process.stdout.readline() == said
            process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
