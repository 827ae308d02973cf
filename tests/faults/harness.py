"""Starts real gateways over walls, with short waits, and ends them."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from tests.faults import raw_client

# Long enough that a busy machine does not look like a fault, short enough to test with.
TIMEOUTS = {"connect": 1.0, "first_token": 1.0, "between_tokens": 1.0, "answer": 1.5, "total": 20.0}


class Replica(Protocol):
    """Anything that can be a replica in a fleet file; mostly a wall."""

    @property
    def url(self) -> str:
        """Its base URL."""

    @property
    def model(self) -> str:
        """What it calls its model."""


@dataclass(frozen=True)
class Pool:
    """One pool of a generated fleet file."""

    name: str
    walls: tuple[Replica, ...]
    supplier: str = ""  # default: the pool's name
    continuation: str = "prefill"
    order: int = 0
    weight: float = 1.0
    model: str = "chat"
    upstream_model: str = ""  # default: what the first wall calls it
    context_tokens: int = 32768
    max_concurrency: int = 64
    api_key_env: str = ""
    price: str = "usd_per_chip_hour = 2.0"


@dataclass(frozen=True)
class Keys:
    """One key of a generated fleet file."""

    sha256: str
    tenant: str
    lane: str = "default"


def quoted(value: str) -> str:
    """Return a TOML string; JSON's form is one."""
    return json.dumps(value)


def fleet_toml(
    pools: tuple[Pool, ...],
    state_dir: Path,
    timeouts: dict[str, float],
    keys: tuple[Keys, ...] = (),
    image_model: str | None = None,
    *,
    pump: bool = True,
) -> str:
    """Return a fleet file over walls, on free ports that the command line sets."""
    lines = ["[gateway]", f"state_dir = {quoted(str(state_dir))}"]
    lines += [f"image_model = {quoted(image_model)}"] if image_model else []
    lines += [] if pump else ["pump = false"]
    lines.append("[timeouts]")
    lines += [f"{name} = {seconds}" for name, seconds in timeouts.items()]
    for supplier in dict.fromkeys(pool.supplier or pool.name for pool in pools):
        lines.append(f"[suppliers.{supplier}]")
    for pool in pools:
        urls = ", ".join(quoted(wall.url) for wall in pool.walls)
        lines += [
            "[[pools]]",
            f"name = {quoted(pool.name)}",
            f"supplier = {quoted(pool.supplier or pool.name)}",
            'chip = "wall"',
            pool.price,
            f"model = {quoted(pool.model)}",
            f"upstream_model = {quoted(pool.upstream_model or pool.walls[0].model)}",
            f"replicas = [{urls}]",
            f"weight = {pool.weight}",
            f"order = {pool.order}",
            f"continuation = {quoted(pool.continuation)}",
            f"context_tokens = {pool.context_tokens}",
            f"max_concurrency = {pool.max_concurrency}",
        ]
        lines += [f"api_key_env = {quoted(pool.api_key_env)}"] if pool.api_key_env else []
    for lane in dict.fromkeys(key.lane for key in keys):
        lines += ["[[lanes]]", f"name = {quoted(lane)}"]
    for key in keys:
        lines += ["[[keys]]", f"sha256 = {quoted(key.sha256)}", f"tenant = {quoted(key.tenant)}"]
        lines.append(f"lane = {quoted(key.lane)}")
    return "\n".join(lines) + "\n"


def free_ports(count: int) -> list[int]:
    """Return ports that were free a moment ago."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@dataclass
class Gateway:
    """A running `secondsource up`, in a process of its own."""

    process: subprocess.Popen[bytes]
    url: str
    admin_url: str
    log: Path
    state_dir: Path
    arguments: list[str] = field(default_factory=list)

    async def ask(self, body: dict[str, Any], **options: Any) -> raw_client.Received:
        """Send one request to the public listener."""
        return await raw_client.post(self.url, body, **options)

    async def ask_many(self, bodies: list[dict[str, Any]], at_once: int = 8) -> list[raw_client.Received]:
        """Send many requests, `at_once` at a time."""
        gate = asyncio.Semaphore(at_once)

        async def one(body: dict[str, Any]) -> raw_client.Received:
            async with gate:
                return await self.ask(body)

        return await asyncio.gather(*(one(body) for body in bodies))

    async def attempts(self, received: raw_client.Received) -> list[dict[str, Any]]:
        """Return the ledger's rows for the request that was answered so."""
        request_id = received.headers["x-request-id"]
        answer = await raw_client.get(self.admin_url, f"/admin/requests/{request_id}")
        assert answer.status == 200, answer.body
        rows: list[dict[str, Any]] = answer.json["attempts"]
        return rows

    def ready(self, path: str = "/ready") -> bool:
        """Ask the public listener whether it is ready (or, with `/health`, alive)."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=1) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def wait(self, path: str = "/ready", seconds: float = 20.0) -> None:
        """Wait until the gateway is ready; an AssertionError carries its log."""
        deadline = time.monotonic() + seconds
        while not self.ready(path):
            assert self.process.poll() is None, f"the gateway ended:\n{self.log_text()}"
            assert time.monotonic() < deadline, f"not {path} after {seconds} s:\n{self.log_text()}"
            time.sleep(0.02)

    def log_text(self) -> str:
        """Return what the gateway wrote so far."""
        return self.log.read_text(errors="replace")

    def rss_mib(self) -> float:
        """Return the process's resident memory in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024

    def kill(self) -> None:
        """Kill it at once (SIGKILL)."""
        self.process.kill()
        self.process.wait(timeout=10)

    def stop(self) -> None:
        """Ask it to stop; kill it if it does not within ten seconds."""
        if self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.kill()


def start_gateway(
    directory: Path,
    *pools: Pool,
    timeouts: dict[str, float] | None = None,
    keys: tuple[Keys, ...] = (),
    image_model: str | None = None,
    wait_for: str = "/ready",
    most_files: int | None = None,
    extra: str = "",
    workers: int = 1,
    pump: bool = True,
) -> Gateway:
    """Start a gateway over pools of walls; its files are under `directory`.

    It may have `most_files` open; `extra` is added to its fleet file.
    """
    directory.mkdir(parents=True, exist_ok=True)
    state_dir, fleet, log = directory / "state", directory / "fleet.toml", directory / "gateway.log"
    fleet.write_text(extra + fleet_toml(pools, state_dir, TIMEOUTS | (timeouts or {}), keys, image_model, pump=pump))
    port, admin_port = free_ports(2)
    arguments = [sys.executable, "-m", "secondsource", "up", str(fleet)]
    arguments += ["--port", str(port), "--admin-port", str(admin_port), "--state-dir", str(state_dir)]
    arguments += ["--workers", str(workers)] if workers > 1 else []
    if most_files is not None:
        arguments = ["sh", "-c", f'ulimit -n {most_files}; exec "$@"', "sh", *arguments]
    return _launch(arguments, port, admin_port, log, state_dir, wait_for)


def _launch(arguments: list[str], port: int, admin_port: int, log: Path, state_dir: Path, wait_for: str) -> Gateway:
    with log.open("ab") as output:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"},
        )
    urls = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin_port}"
    gateway = Gateway(process, *urls, log, state_dir, arguments)
    try:
        gateway.wait(wait_for)
    except BaseException:
        gateway.kill()
        raise
    return gateway


def restart(gateway: Gateway, wait_for: str = "/ready") -> Gateway:
    """Start the same gateway again, on the same ports and state."""
    port, admin_port = (int(url.rpartition(":")[2]) for url in (gateway.url, gateway.admin_url))
    again = _launch(gateway.arguments, port, admin_port, gateway.log, gateway.state_dir, wait_for)
    return replace(again, arguments=gateway.arguments)
