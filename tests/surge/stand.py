"""What a surge is run on: replicas in one process, the gateway over them in another."""

import asyncio
import hashlib
import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.harness import free_ports
from tests.surge.load import FREE, FREE_TENANTS, PAID, PAID_TENANTS
from tests.surge.verdict import TTFT_S

TOKENS = {tenant: f"sk-{tenant}" for tenant in (*PAID_TENANTS, *FREE_TENANTS)}
FLEET = """
[gateway]
state_dir = "{state}"
workers = {workers}
[suppliers.here]
[[pools]]
name = "here"
supplier = "here"
chip = "simulated"
usd_per_chip_hour = 2.0
model = "chat"
upstream_model = "{model}"
replicas = [{replicas}]
max_concurrency = {slots}
[[lanes]]
name = "paid"
priority = 0
ttft_s = {paid_s}
[[lanes]]
name = "free"
priority = 10
ttft_s = {free_s}
"""


@dataclass
class Stand:
    """A gateway over replicas."""

    port: int
    admin: str
    replicas: list[int]  # their ports
    slots: int
    gateway: "subprocess.Popen[bytes]"

    def stats(self) -> list[dict[str, int]]:
        """Return what each replica has done."""
        return [self._get(f"http://127.0.0.1:{port}/stats") for port in self.replicas]

    def tokens_written(self) -> int:
        """Return what all replicas have written."""
        return sum(one["tokens"] for one in self.stats())

    def lanes(self) -> dict[str, dict[str, Any]]:
        """Return the gateway's lanes by name."""
        return {one["lane"]: one for one in self._get(self.admin + "/admin/lanes")["lanes"]}

    def metrics(self) -> str:
        """Return the gateway's metrics."""
        with urllib.request.urlopen(self.admin + "/metrics", timeout=10) as answer:
            return str(answer.read().decode())

    def attempts(self) -> dict[str, int]:
        """Return how many attempts ended how."""
        ended = re.findall(r'^secondsource_attempts_total\{.*outcome="(\w+)".*\} (\S+)$', self.metrics(), re.MULTILINE)
        return {outcome: sum(int(float(n)) for one, n in ended if one == outcome) for outcome, _ in ended}

    def rss_mib(self) -> float:
        """Return the resident memory of the gateway's processes in MiB."""
        pid = self.gateway.pid
        workers = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        status = "".join(Path(f"/proc/{one}/status").read_text() for one in (pid, *workers))
        return sum(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024

    def _get(self, url: str) -> Any:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)

    async def watch(self, seconds: float) -> list[tuple[float, int, int, float]]:
        """Return time, waiting, places and memory once a second, until cancelled or for so long."""
        seen = []
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            lanes = await asyncio.to_thread(self.lanes)
            waiting = sum(one["waiting"] for one in lanes.values())
            places = sum(one["places"] for one in lanes.values())
            seen.append((time.monotonic(), waiting, places, self.rss_mib()))
            await asyncio.sleep(1.0)
        return seen


@contextmanager
def stand(directory: Path, count: int, slots: int, workers: int = 1) -> Iterator[Stand]:
    """Start simulated replicas and a gateway over them, and end both."""
    command = [sys.executable, "-m", "tests.surge.replica", "--count", str(count), "--slots", str(slots)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as replicas:
        assert replicas.stdin
        assert replicas.stdout
        try:
            with gateway_over(directory, json.loads(replicas.stdout.readline()), slots, workers=workers) as found:
                yield found
        finally:
            replicas.stdin.close()
            replicas.wait(timeout=10)


@contextmanager
def gateway_over(
    directory: Path,
    ports: list[int],
    slots: int,
    model: str = "chat",
    workers: int = 1,
    promised_s: Mapping[str, float] = TTFT_S,
) -> Iterator[Stand]:
    """Start a gateway over replicas on these ports, of so many slots each, and end it; `promised_s` by lane."""
    fleet, log = directory / "fleet.toml", directory / "gateway.log"
    urls = ", ".join(f'"http://127.0.0.1:{port}"' for port in ports)
    promised = {"paid_s": promised_s[PAID], "free_s": promised_s[FREE]}
    text = FLEET.format(state=directory / "state", replicas=urls, slots=slots, model=model, workers=workers, **promised)
    for tenant, token in TOKENS.items():
        sha256 = hashlib.sha256(token.encode()).hexdigest()
        lane = PAID if tenant in PAID_TENANTS else FREE
        text += f'[[keys]]\nsha256 = "{sha256}"\ntenant = "{tenant}"\nlane = "{lane}"\n'
    fleet.write_text(text)
    port, admin_port = free_ports(2)
    command = [sys.executable, "-m", "secondsource", "up", str(fleet)]
    command += ["--port", str(port), "--admin-port", str(admin_port)]
    with log.open("wb") as output:
        gateway = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    try:
        _wait(f"http://127.0.0.1:{port}/ready", gateway, log)
        yield Stand(port, f"http://127.0.0.1:{admin_port}", ports, slots, gateway)
    finally:
        gateway.terminate()
        gateway.wait(timeout=60)


def _wait(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    ends = time.monotonic() + 60.0
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < ends, log.read_text()
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError:
            time.sleep(0.05)
