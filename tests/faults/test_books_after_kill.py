"""The gateway is killed at any instant under load: after a restart every attempt that reached a replica is booked."""

import asyncio
import contextlib
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.faults.conftest import MakeGateway, MakeWall
from tests.faults.dialects import Dialect
from tests.faults.harness import Gateway, Pool, restart
from tests.faults.language_model import ask
from tests.faults.wall import Wall
from tests.ledger_records import ledger_rows

ROUNDS = 3
AT_ONCE = 16


async def load(gateway: Gateway, seed: int) -> None:
    """Ask without end; every answer may be broken by the kill."""

    async def one_client(number: int) -> None:
        for turn in range(10_000):
            try:
                await gateway.ask(ask(f"kill {seed} {number} {turn}", size=120, stream=(number + turn) % 3 > 0))
            except OSError:
                return

    await asyncio.gather(*(one_client(number) for number in range(AT_ONCE)))


def bill(state_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "secondsource", "bill", "--state-dir", str(state_dir), "--json", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def rows_of(state_dir: Path) -> list[dict[str, Any]]:
    names = ("attempt_id", "replica", "outcome", "status", "tokens_out", "tenant_nano_usd", "cost_nano_usd")
    rows = ledger_rows(state_dir, f"SELECT {', '.join(names)} FROM attempt")
    return [dict(zip(names, row, strict=True)) for row in rows]


def assert_booked(rows: list[dict[str, Any]], wall: Wall) -> None:
    """Each request that the wall saw has one row; rows it did not see were on their way when the kill came."""
    here = [row for row in rows if row["replica"] == wall.url]
    unseen = len(here) - len(wall.seen)
    interrupted = [row for row in here if row["outcome"] == "interrupted"]
    assert 0 <= unseen <= len(interrupted), (len(here), len(wall.seen))
    assert Counter(row["tokens_out"] for row in here if row["outcome"] == "ok") <= Counter(
        seen.tokens_sent for seen in wall.seen if seen.finished
    )


@pytest.mark.parametrize("seed", [1])
async def test_kill_9_under_load(make_wall: MakeWall, make_gateway: MakeGateway, seed: int) -> None:
    random = Random(seed)
    walls = [make_wall(dialect=Dialect.VLLM, pace=0.005) for _ in range(2)]
    gateway = make_gateway(*(Pool(f"p{number}", (wall,)) for number, wall in enumerate(walls)))
    try:
        for _ in range(ROUNDS):
            asking = asyncio.create_task(load(gateway, seed))
            await asyncio.sleep(random.uniform(0.2, 1.2))
            gateway.kill()
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            gateway = restart(gateway)
        audited = bill(gateway.state_dir, "--audit")
        assert (audited.returncode, json.loads(audited.stdout)["misfit"]) == (0, None)
    finally:
        gateway.stop()
    rows = rows_of(gateway.state_dir)
    assert len({row["attempt_id"] for row in rows}) == len(rows)
    assert None not in {row["outcome"] for row in rows}
    interrupted = [row for row in rows if row["outcome"] == "interrupted"]
    assert interrupted
    assert all(row["tenant_nano_usd"] == 0 for row in interrupted)
    for wall in walls:
        assert len(wall.seen) > 10
        assert_booked(rows, wall)
    assert list((gateway.state_dir / "journal").iterdir()) == []
    audited = bill(gateway.state_dir, "--audit")
    assert (audited.returncode, json.loads(audited.stdout)["attempts"]) == (0, len(rows))


async def test_tokens_that_had_left_are_known_to_the_last(make_wall: MakeWall, make_gateway: MakeGateway) -> None:
    wall = make_wall(pace=0.02)
    gateway = make_gateway(Pool("only", (wall,)))
    received: list[int] = []

    async def read_one(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rpartition(":")[2]))
        body = json.dumps(ask(f"to the last {number}", size=1500, stream=True)).encode()
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        read = b""
        with contextlib.suppress(ConnectionResetError):
            while data := await reader.read(65536):
                read += data
        received.append(len(re.findall(rb'"content":"[^"]', read)))
        writer.close()

    reading = asyncio.gather(*(read_one(number) for number in range(8)))
    await asyncio.sleep(2.5)
    gateway.kill()
    await reading
    gateway = restart(gateway)
    try:
        rows = rows_of(gateway.state_dir)
    finally:
        gateway.stop()
    print("received", sorted(received), "booked", sorted(row["tokens_out"] for row in rows))
    assert [row["outcome"] for row in rows] == ["interrupted"] * 8
    assert min(received) > 20
    # Killed between an event and its count, at most one of each stream.
    for booked, came in zip(sorted(row["tokens_out"] for row in rows), sorted(received), strict=True):
        assert came <= booked + 1
    assert sum(row["tokens_out"] for row in rows) <= sum(seen.events_sent for seen in wall.seen)
