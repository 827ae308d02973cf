"""The embedded default's two real sources: killed ones come back, orphans do not stay."""

import asyncio
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from secondsource.core.errors import SecondsourceError
from secondsource.embedded.default_fleet import SOURCES, Sizing
from secondsource.embedded.model import DEFAULT_MODEL, default_model, model_cache_directory
from secondsource.embedded.ports import choose_free_ports, is_free
from secondsource.embedded.supervisor import SourceChange, SourceState, Supervisor, llamacpp_source
from secondsource.gateway.upstream import ReplicaClient, Target

SMALL = Sizing(slots=2, context_per_slot=512, threads=1)


class Quiet:
    """Hears of a fetch and says nothing."""

    def say(self, text: str) -> None:
        """Nothing."""

    def on_bytes(self, done: int, total: int) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def model() -> Path:
    try:
        return default_model(DEFAULT_MODEL, model_cache_directory(), environ=os.environ, listener=Quiet())
    except SecondsourceError as error:
        pytest.skip(f"the default model cannot be had here: {error}")


def ask(url: str) -> str:
    """The source's answer to a short question at temperature 0."""
    messages = [{"role": "user", "content": "Count to five."}]
    body = json.dumps({"messages": messages, "temperature": 0, "max_tokens": 12}).encode()
    request = urllib.request.Request(f"{url}/v1/chat/completions", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        text: str = json.load(answer)["choices"][0]["message"]["content"]
        return text


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@asynccontextmanager
async def two_sources(model: Path, logs: Path, on_change: Callable[[SourceChange], None]) -> AsyncIterator[list[int]]:
    ports = choose_free_ports(2)
    sources = [
        llamacpp_source(name=name, port=port, model=model, alias="m", sizing=SMALL, log=logs / f"{name}.log")
        for (name, _), port in zip(SOURCES, ports, strict=True)
    ]
    supervisor = Supervisor(sources, on_change)
    await supervisor.start()
    try:
        async with asyncio.timeout(60):
            await supervisor.settle()  # it starts as soon as one serves
        yield list(ports)
    finally:
        await supervisor.stop()


async def test_streams_one_right_after_another_lose_no_request(model: Path, tmp_path: Path) -> None:
    """llama.cpp's server closes after each stream, though it says that it keeps the connection."""
    body = json.dumps({"messages": [{"role": "user", "content": "Hi."}], "stream": True, "max_tokens": 2}).encode()
    async with two_sources(model, tmp_path, lambda _: None) as ports:
        client = ReplicaClient(Target(f"http://127.0.0.1:{ports[0]}", None, None), 2.0)
        for _ in range(20):
            answer = await client.fetch(b"POST", b"/v1/chat/completions", body, 60.0, 100_000)
            assert answer.body.endswith(b"data: [DONE]\n\n")
        client.close()


async def test_a_killed_source_comes_back_on_its_port_and_answers_the_same(model: Path, tmp_path: Path) -> None:
    changes: list[SourceChange] = []
    again = asyncio.Event()

    def readies(name: str) -> list[SourceChange]:
        return [change for change in changes if (change.name, change.state) == (name, SourceState.READY)]

    def on_change(change: SourceChange) -> None:
        changes.append(change)
        if len(readies("local-a")) == 2:
            again.set()

    async with two_sources(model, tmp_path, on_change) as (port_a, port_b):
        url_a, url_b = f"http://127.0.0.1:{port_a}", f"http://127.0.0.1:{port_b}"
        before = await asyncio.to_thread(ask, url_a)
        assert before
        assert await asyncio.to_thread(ask, url_b) == before, "one engine and one model, two processes"
        # An answer is under way at the kill, so that the port is left with connections half closed.
        running = asyncio.create_task(asyncio.to_thread(ask, url_a))
        await asyncio.sleep(0.1)
        os.kill(readies("local-a")[0].pid, signal.SIGKILL)
        await asyncio.gather(running, return_exceptions=True)
        async with asyncio.timeout(60):
            await again.wait()
        assert readies("local-a")[1].detail == url_a
        assert await asyncio.to_thread(ask, url_a) == before
        assert len(readies("local-b")) == 1
    assert not any(is_alive(change.pid) for change in changes if change.pid)
    assert is_free(port_a)
    assert "listening" in (tmp_path / "local-a.log").read_text()


PARENT = """
import asyncio, pathlib, sys
from tests.e2e.test_embedded import two_sources

async def main():
    changes = []
    async with two_sources(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), changes.append):
        print(*{change.pid for change in changes}, flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


def test_a_parent_killed_with_9_leaves_no_orphan(model: Path, tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", PARENT, str(model), str(tmp_path)]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 2
        assert all(map(is_alive, pids))
        parent.kill()
    deadline = time.monotonic() + 30
    while any(map(is_alive, pids)):
        assert time.monotonic() < deadline, "the sources outlived the process that started them"
        time.sleep(0.05)


def test_a_source_is_deaf_to_an_interrupt(model: Path, tmp_path: Path) -> None:
    (port,) = choose_free_ports(1)
    source = llamacpp_source(
        name="local-a", port=port, model=model, alias="m", sizing=SMALL, log=tmp_path / "local-a.log"
    )
    with subprocess.Popen(source.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        url = json.loads(process.stdout.readline())["url"]
        process.send_signal(signal.SIGINT)
        assert ask(url)
        process.stdin.close()
        assert process.wait(30) == 0


def children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def run_curl(line: str) -> bytes:
    """The body that the printed line gets; without curl on this machine, asked for in its stead."""
    if shutil.which("curl") is not None:
        return subprocess.run(["sh", "-c", line], capture_output=True, check=True, timeout=120).stdout
    words = shlex.split(line)
    request = urllib.request.Request(words[1], words[words.index("-d") + 1].encode())
    with urllib.request.urlopen(request, timeout=120) as answer:
        body: bytes = answer.read()
        return body


def test_up_without_a_file_serves_from_two_sources_and_stops_cleanly(model: Path, tmp_path: Path) -> None:
    assert model.exists()
    command = [sys.executable, "-m", "secondsource", "up", "--port", "0", "--admin-port", "0"]
    command += ["--state-dir", str(tmp_path / "state")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = []
        while not lines or not lines[-1].startswith("Ctrl-C"):
            lines.append(process.stdout.readline())
            assert lines[-1], process.stderr.read() if process.stderr else ""
        said = "".join(lines)
        sources = children_of(process.pid)
        assert len(sources) == 2
        for part in ("local-a", "local-b", "this-machine-a", "this-machine-b", "ledger.sqlite3", "fast and badly"):
            assert part in said
        (curl,) = [line for line in lines if line.startswith("curl ")]
        answer = json.loads(run_curl(curl))
        assert answer["choices"][0]["message"]["content"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert not any(map(is_alive, sources))
    assert (tmp_path / "state" / "local-a.log").exists()
