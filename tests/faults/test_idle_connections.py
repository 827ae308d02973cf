"""More idle clients than a gateway may have: those go that idled longest, and nobody else notices."""

import asyncio

from tests.faults.conftest import MakeGateway, MakeWall
from tests.faults.harness import Pool
from tests.faults.judge import STREAM, assert_whole
from tests.faults.language_model import ask
from tests.faults.raw_talk import connect

MOST_FILES = 700  # of the gateway: 214 clients
IDLE = 900


async def test_the_longest_idle_are_shed_and_others_unaffected(make_wall: MakeWall, make_gateway: MakeGateway) -> None:
    wall = make_wall(pace=0.02)
    gateway = make_gateway(Pool("only", (wall,)), most_files=MOST_FILES)
    body = ask("long", size=800, **STREAM)
    streaming = asyncio.create_task(gateway.ask(body))
    while not wall.seen:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    opened = []
    for _ in range(IDLE // 30):
        opened += await asyncio.gather(*(connect(gateway) for _ in range(30)))
        await asyncio.sleep(0.01)
    quick = ask("quick", size=20)
    assert_whole(await gateway.ask(quick), quick)
    assert not streaming.done(), "it was under way all the while"
    assert_whole(await streaming, body)
    shed = [reader.at_eof() or reader.exception() is not None for reader, _ in opened]
    assert sum(not gone for gone in shed) <= MOST_FILES // 2
    assert not any(shed[-30:]), "the newest are kept"
    assert all(shed[:500]), "the oldest are not"
    reader, writer = opened[-1]
    writer.write(b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n")
    assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200")
    for _, writer in opened:
        writer.transport.abort()
