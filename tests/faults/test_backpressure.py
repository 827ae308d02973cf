"""Clients that hardly read hold back their own replica, cost a bounded buffer, and delay nobody."""

import asyncio
import json
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest

from tests.faults.conftest import gateways_under, walls_of
from tests.faults.fault import Fault, Kind
from tests.faults.harness import Gateway, Pool
from tests.faults.judge import STREAM, assert_whole
from tests.faults.language_model import ask
from tests.faults.pair import until
from tests.faults.raw_talk import post
from tests.faults.wall import Wall, WallThread

READERS = 20
MIB_A_READER = 2.0  # the text kept for going on elsewhere, and buffers
TOTAL_S = 6.0
LINGER_S = 2.0
IDLE_S = 1.0


@dataclass
class Stage:
    """A replica that floods, one that answers others, and a gateway over both."""

    flooding: Wall
    good: Wall
    gateway: Gateway

    async def good_request(self) -> None:
        body = ask("well meant", size=60, **STREAM)
        received = await self.gateway.ask(body)
        assert_whole(received, body)
        assert received.seconds < 3, "held up by those who do not read"


@pytest.fixture(scope="module")
def stage(wall_thread: WallThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with walls_of(wall_thread) as make_wall, gateways_under(tmp_path_factory.mktemp("slow")) as make_gateway:
        flooding, good = make_wall(otherwise=Fault(Kind.FLOOD)), make_wall()
        pools = Pool("flooding", (flooding,), model="flood"), Pool("good", (good,))
        gateway = make_gateway(*pools, timeouts={"between_tokens": 2 * TOTAL_S, "total": TOTAL_S, "idle": IDLE_S})
        yield Stage(flooding, good, gateway)
        assert "Traceback" not in gateway.log_text()


@dataclass
class Reader:
    """A client with a small window that reads a byte a second."""

    gateway: Gateway
    got: bytearray = field(default_factory=bytearray)
    ended: str = ""

    async def read(self, request: bytes, every_s: float = 1.0) -> None:
        loop, address = asyncio.get_running_loop(), urlsplit(self.gateway.url)
        with socket.socket() as mine:
            mine.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            mine.setblocking(False)
            await loop.sock_connect(mine, (address.hostname, address.port))
            await loop.sock_sendall(mine, request)
            try:
                while data := await loop.sock_recv(mine, 1):
                    self.got += data
                    await asyncio.sleep(every_s)
                self.ended = "fin"
            except ConnectionError:
                self.ended = "reset"


async def test_twenty_clients_that_read_a_byte_a_second(stage: Stage) -> None:
    await stage.good_request()
    before = stage.gateway.rss_mib()
    body = {"model": "flood", "messages": [{"role": "user", "content": "flood"}], **STREAM}
    readers = [Reader(stage.gateway) for _ in range(READERS)]
    tasks = [asyncio.create_task(reader.read(post(json.dumps(body).encode()))) for reader in readers]
    peak, sent = before, []
    for _ in range(12):
        await stage.good_request()
        await asyncio.sleep(0.25)
        peak = max(peak, stage.gateway.rss_mib())
        sent.append(sum(one.tokens_sent for one in stage.flooding.seen))
    print(f"grew by {peak - before:.1f} MiB; kB sent: {sent}")
    assert peak - before < READERS * MIB_A_READER
    assert len(stage.flooding.seen) == READERS
    assert sent[-1] - sent[-6] < 64 * READERS, f"the replicas are not held back: {sent}"

    async def all_cut() -> bool:
        await stage.good_request()
        return all(one.peer_closed_early for one in stage.flooding.seen)

    await until(all_cut, seconds=TOTAL_S)
    await until(lambda: _closed(stage), seconds=LINGER_S + 3)
    assert [reader.ended for reader in readers if reader.ended == "fin"] == []
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    logged = [json.loads(line) for line in (stage.gateway.state_dir / "requests.jsonl").read_text().splitlines()]
    floods = [line for line in logged if line["model"] == "flood"]
    assert [line["status"] for line in floods] == [502] * READERS
    assert {line["attempts"][0]["outcome"] for line in floods} == {"total_timeout"}


def connections_held(pid: int, port: int) -> int:
    """Return how many connections to `port` stand whose descriptors the process has open."""
    inodes = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        with suppress(OSError):
            inodes.add(os.readlink(f"/proc/{pid}/fd/{name}"))
    held = 0
    with open(f"/proc/{pid}/net/tcp") as table:
        for line in list(table)[1:]:
            fields = line.split()
            established = fields[3] != "0A"  # not listening
            held += established and int(fields[1][-4:], 16) == port and f"socket:[{fields[9]}]" in inodes
    return held


async def test_a_client_that_asks_and_asks_and_never_reads(stage: Stage) -> None:
    await stage.good_request()
    before = stage.gateway.rss_mib()
    address = urlsplit(stage.gateway.url)
    _, writer = await asyncio.open_connection(address.hostname, address.port, limit=1024)
    requests = b"GET /v1/models HTTP/1.1\r\nhost: a\r\n\r\n" * 5000
    sent = 0

    async def keep_asking() -> None:
        nonlocal sent
        while sent < 200 * len(requests):
            writer.write(requests)
            await writer.drain()
            sent += len(requests)

    asking = asyncio.create_task(keep_asking())
    await asyncio.sleep(0.5)
    for _ in range(3):
        await stage.good_request()
    grown = stage.gateway.rss_mib() - before
    print(f"grew by {grown:.1f} MiB after {sent / 2**20:.1f} MiB of requests")
    assert grown < 24
    assert not asking.done(), "it could ask all it wanted"
    await until(lambda: _closed(stage), seconds=IDLE_S * 3 + 4)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    writer.transport.abort()


async def _closed(stage: Stage) -> bool:
    return connections_held(stage.gateway.process.pid, int(stage.gateway.url.rpartition(":")[2])) == 0


async def test_a_client_that_reads_slowly_gets_all_of_its_answer(stage: Stage) -> None:
    body = ask("slow and whole", size=3000, **STREAM)
    reader = Reader(stage.gateway)
    stalled = asyncio.create_task(reader.read(post(json.dumps(body).encode(), b"connection: close"), every_s=0.0))
    await asyncio.wait_for(stalled, 20)
    assert reader.ended == "fin"
    assert reader.got.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
