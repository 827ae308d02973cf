"""Clients that mean ill: the right status, bounded memory, and nobody else notices."""

import asyncio
import json
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random

import pytest

from tests.faults.conftest import gateways_under, walls_of
from tests.faults.harness import Gateway, Pool
from tests.faults.judge import STREAM, assert_whole
from tests.faults.language_model import ask, expected_answer
from tests.faults.pair import until
from tests.faults.raw_talk import assert_refused, connect, post, statuses, talk
from tests.faults.wall import Wall, WallThread

MIB = 1024 * 1024
REQUEST_S = 1.0  # for a request to arrive whole
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"
BODY = json.dumps(ask("hostile", size=20)).encode()
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)


@dataclass
class Stage:
    """A gateway over one good replica."""

    wall: Wall
    gateway: Gateway

    async def good_request(self) -> None:
        """Somebody who means well is answered, and promptly."""
        body = ask("well meant", size=40, **STREAM)
        received = await self.gateway.ask(body)
        assert_whole(received, body)
        assert received.seconds < 5, "held up by others"

    @asynccontextmanager
    async def unaffected(self, mib: float) -> AsyncIterator[None]:
        """While this goes on others are answered all the time, and the process grows by less than `mib`."""
        await self.good_request()
        before, ended = self.gateway.rss_mib(), asyncio.Event()
        peak = before

        async def others() -> None:
            nonlocal peak
            while not ended.is_set():
                await self.good_request()
                peak = max(peak, self.gateway.rss_mib())
                await asyncio.sleep(0.02)

        watching = asyncio.create_task(others())
        try:
            yield
        finally:
            ended.set()
            await watching
        assert peak - before < mib, f"grew by {peak - before:.1f} MiB"


@pytest.fixture(scope="module")
def stage(wall_thread: WallThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with walls_of(wall_thread) as make_wall, gateways_under(tmp_path_factory.mktemp("hostile")) as make_gateway:
        wall = make_wall()
        gateway = make_gateway(Pool("only", (wall,)), timeouts={"request": REQUEST_S})
        yield Stage(wall, gateway)
        assert "Traceback" not in gateway.log_text()


FRAMING = {
    "both lengths": HEAD + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n" + CHUNKS,
    "both lengths, chunked first": HEAD + b"transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n" + CHUNKS,
    "two lengths that agree": HEAD + b"content-length: 2\r\ncontent-length: 2\r\n\r\n{}",
    "two lengths that differ": HEAD + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}x",
    "a list of lengths": HEAD + b"content-length: 2, 2\r\n\r\n{}",
    "a length with a sign": HEAD + b"content-length: +2\r\n\r\n{}",
    "a negative length": HEAD + b"content-length: -2\r\n\r\n{}",
    "a length in hex": HEAD + b"content-length: 0x2\r\n\r\n{}",
    "a length beyond 64 bits": HEAD + b"content-length: 99999999999999999999999\r\n\r\n{}",
    "chunked is not last": HEAD + b"transfer-encoding: chunked, identity\r\n\r\n" + CHUNKS,
    "chunked twice": HEAD + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n" + CHUNKS,
    "a vertical tab before chunked": HEAD + b"transfer-encoding: \x0bchunked\r\n\r\n" + CHUNKS,
    "chunked in HTTP/1.0": CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0") + CHUNKS,
    "a chunk size with 0x": CHUNKED + b"0x2\r\n{}\r\n0\r\n\r\n",
    "a chunk size with a sign": CHUNKED + b"+2\r\n{}\r\n0\r\n\r\n",
    "a negative chunk size": CHUNKED + b"-2\r\n{}\r\n0\r\n\r\n",
    "a chunk size beyond 64 bits": CHUNKED + b"fffffffffffffffff\r\n{}\r\n0\r\n\r\n",
    "a chunk longer than its size": CHUNKED + b"1\r\n{}\r\n0\r\n\r\n",
    "a chunk size ended by a bare LF": CHUNKED + b"2\n{}\r\n0\r\n\r\n",
    "a bare LF in a chunk extension": CHUNKED + b"2;a\nb\r\n{}\r\n0\r\n\r\n",
    "lines ended by bare LF": post(b"{}").replace(b"\r\n", b"\n"),
    "one line ended by a bare LF": HEAD + b"x: a\ncontent-length: 2\r\n\r\n{}",
    "one line ended by a bare CR": HEAD + b"x: a\rcontent-length: 2\r\n\r\n{}",
    "a folded line": HEAD + b"x: a\r\n b\r\ncontent-length: 2\r\n\r\n{}",
    "a folded transfer encoding": HEAD + b"transfer-encoding:\r\n chunked\r\n\r\n" + CHUNKS,
    "a space before the colon": HEAD + b"content-length : 2\r\n\r\n{}",
    "a space before the first header": HEAD.replace(b"host", b" host") + b"content-length: 2\r\n\r\n{}",
    "a NUL in a name": HEAD + b"x\0: a\r\n\r\n",
    "a NUL in a value": HEAD + b"x: a\0b\r\n\r\n",
    "a length in a trailer": CHUNKED + CHUNKS[:-2] + b"content-length: 5\r\n\r\n",
    "no host": HEAD.replace(b"host", b"ghost") + b"content-length: 2\r\n\r\n{}",
    "two hosts": HEAD + b"host: b\r\ncontent-length: 2\r\n\r\n{}",
    "two keys": HEAD + b"authorization: Bearer a\r\nauthorization: Bearer b\r\ncontent-length: 2\r\n\r\n{}",
    "a space in the target": post(b"{}", path=b"/v1/chat/comp letions"),
    "HTTP/1.2": post(b"{}", version=b"1.2"),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": bytes.fromhex("160301020001 0001fc0303") + b"\0" * 200,
    "an unknown method": b"FETCH / HTTP/1.1\r\nhost: a\r\n\r\n",
}


@pytest.mark.parametrize("data", FRAMING.values(), ids=FRAMING.keys())
async def test_framing_that_two_servers_could_read_differently_is_refused(stage: Stage, data: bytes) -> None:
    seen = len(stage.wall.seen)
    smuggled = b"GET /v1/models HTTP/1.1\r\nhost: a\r\n\r\n"
    assert_refused(await talk(stage.gateway, data + smuggled), 400)
    assert len(stage.wall.seen) == seen


async def test_what_this_server_does_not_do_is_refused_by_its_own_status(stage: Stage) -> None:
    for encoding in (b"gzip, chunked", b"xchunked", b"identity"):
        encoded = HEAD + b"transfer-encoding: %b\r\n\r\n" % encoding + CHUNKS
        assert_refused(await talk(stage.gateway, encoded), 501)
    assert_refused(await talk(stage.gateway, b"CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n"), 405)


async def test_trailers_say_nothing_about_who_asks_or_what_comes_next(stage: Stage) -> None:
    trailers = CHUNKED + CHUNKS[:-2] + b"host: b\r\nauthorization: Bearer x\r\nexpect: 100-continue\r\n\r\n"
    answer = await talk(stage.gateway, trailers + b"GET /health HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
    assert statuses(answer) == [200, 200]
    assert b"100 Continue" not in answer


async def test_an_offer_of_another_protocol_is_ignored(stage: Stage) -> None:
    offers = (b"connection: Upgrade, HTTP2-Settings", b"upgrade: h2c", b"http2-settings: AAMAAABkAAQAAP__")
    request = post(BODY, *offers)
    for parts in ((request,), (request[:-20], request[-20:])):
        last = b"GET /health HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
        answer = await talk(stage.gateway, *parts, last)
        assert statuses(answer) == [200, 200], answer
        assert expected_answer(json.loads(BODY)).encode() in answer


BAD_BODIES = {
    "nothing": b"",
    "not JSON": b"model=chat&messages=hello",
    "not UTF-8": b'{"model": "chat", "messages": "\xff\xfe"}',
    "half of JSON": BODY[:-1],
    "two documents": BODY + BODY,
    "an array": b"[" + BODY + b"]",
    "a number": b"1e999",
    "NaN": b'{"model": "chat", "n": NaN, "messages": [1]}',
    "deep arrays": b'{"model": "chat", "messages": ' + b"[" * 500_000 + b"]" * 500_000 + b"}",
    "deep objects": b'{"a":' * 500_000 + b"1" + b"}" * 500_000,
    "deep and never closed": b"[" * 1_000_000,
    "a number of a million digits": b'{"model": "chat", "messages": [1], "n": ' + b"9" * 1_000_000 + b"}",
    "UTF-16": json.dumps(ask("x")).encode("utf-16"),
}


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES.keys())
async def test_a_body_that_is_no_request_is_a_400(stage: Stage, body: bytes) -> None:
    seen = len(stage.wall.seen)
    assert_refused(await talk(stage.gateway, post(body, b"connection: close")), 400)
    assert len(stage.wall.seen) == seen


async def test_the_replica_reads_a_parameter_that_is_given_twice_as_the_gateway_did(stage: Stage) -> None:
    messages = json.dumps(ask("twice", size=20)["messages"]).encode()
    twice = b'{"model": "%b", "messages": ' + messages + b', "stream": true, "model": "%b", "stream": false}'
    answer = await talk(stage.gateway, post(twice % (b"nobody", b"chat"), b"connection: close"))
    assert statuses(answer) == [200]
    assert (stage.wall.seen[-1].body["model"], stage.wall.seen[-1].body["stream"]) == ("wall-model", False)
    assert_refused(await talk(stage.gateway, post(twice % (b"chat", b"nobody"), b"connection: close")), 404)


async def test_a_body_over_the_limit_is_refused_before_it_is_read(stage: Stage) -> None:
    block = b" " * MIB
    length = HEAD + b"content-length: %d\r\n\r\n" % (50 * MIB)
    async with stage.unaffected(mib=16):
        answers = await asyncio.gather(*(talk(stage.gateway, length, *[block] * 50) for _ in range(4)))
    for answer in answers:
        assert_refused(answer, 413)


async def test_a_body_of_unknown_length_is_refused_at_the_limit(stage: Stage) -> None:
    async with stage.unaffected(mib=32 + 48):  # the limit, what is in flight, and what the allocator keeps
        answer = await talk(stage.gateway, CHUNKED, *[b"100000\r\n" + b" " * MIB + b"\r\n"] * 50)
    assert_refused(answer, 413)


BOMBS = {
    "a million headers": [HEAD, *[b"x-%d: y\r\n" % number * 100 for number in range(10_000)]],
    "one header without end": [HEAD + b"x: ", *[b"y" * 65536] * 320],
    "one name without end": [HEAD, *[b"y" * 65536] * 320],
    "a target without end": [b"GET /", *[b"y" * 65536] * 320],
    "trailers without end": [CHUNKED + CHUNKS[:-2], *[b"x: yyyyyyyyyyyyyyyyyyyy\r\n" * 2000] * 400],
    "one trailer without end": [CHUNKED + CHUNKS[:-2] + b"x: ", *[b"y" * 65536] * 320],
    "a chunk extension without end": [CHUNKED + b"1;", *[b"y" * 65536] * 320],
    "empty lines without end": [b"\r\n" * 32768] * 320,
}


@pytest.mark.parametrize("parts", BOMBS.values(), ids=BOMBS.keys())
async def test_a_head_without_end_is_refused(stage: Stage, parts: list[bytes]) -> None:
    async with stage.unaffected(mib=16):
        answer = await talk(stage.gateway, *parts)
    assert_refused(answer, 431)


async def drip(gateway: Gateway, start: bytes, byte: bytes) -> tuple[bytes, float]:
    """Send a byte every 50 ms until the gateway has had enough; returns what came, and after how long."""
    begun = asyncio.get_running_loop().time()
    reader, writer = await connect(gateway)
    writer.write(start)
    listening = asyncio.create_task(reader.read())
    while not listening.done():
        writer.write(byte)
        await asyncio.wait([listening], timeout=0.05)
    writer.transport.abort()
    return await listening, asyncio.get_running_loop().time() - begun


@pytest.mark.parametrize(
    ("start", "byte"),
    [(b"POST /v1/chat", b"x"), (HEAD + b"x: ", b"y"), (HEAD + b"content-length: 1000\r\n\r\n{", b" ")],
    ids=["in the target", "in a header", "in the body"],
)
async def test_a_request_that_only_drips_is_ended(stage: Stage, start: bytes, byte: bytes) -> None:
    async with stage.unaffected(mib=16):
        dripped = await asyncio.gather(*(drip(stage.gateway, start, byte) for _ in range(50)))
    for answer, seconds in dripped:
        assert_refused(answer, 408)
        assert seconds >= REQUEST_S


async def test_pipelined_requests_are_answered_in_order(stage: Stage) -> None:
    bodies = [ask(f"pipelined {number}", size=20, stream=number % 2 == 1) for number in range(6)]
    requests = [post(json.dumps(body).encode()) for body in bodies]
    requests.insert(3, b"GET /v1/models HTTP/1.1\r\nhost: a\r\n\r\n")
    requests.append(b"GET /health HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
    seen = len(stage.wall.seen)
    answer = await talk(stage.gateway, b"".join(requests))
    assert statuses(answer) == [200] * 8
    asked = [one.body["messages"][0]["content"].split(" bytes")[0] for one in stage.wall.seen[seen:]]
    assert asked == [f"pipelined {number}" for number in range(6)]


async def test_a_pipeline_without_end_waits_outside(stage: Stage) -> None:
    slow = post(json.dumps(ask("one at a time", size=20)).encode())
    async with stage.unaffected(mib=16):
        answer = await talk(stage.gateway, *[slow * 200] * 20)
    assert set(statuses(answer)) == {200}


async def test_http_1_0_is_answered_without_chunks_and_closed(stage: Stage) -> None:
    whole = await talk(stage.gateway, post(BODY, version=b"1.0"))
    assert statuses(whole) == [200]
    assert b"chunked" not in whole
    body = ask("old", size=60, **STREAM)
    streamed = await talk(stage.gateway, post(json.dumps(body).encode(), version=b"1.0"))
    assert b"chunked" not in streamed
    head, _, events = streamed.partition(b"\r\n\r\n")
    assert b"\r\nconnection: close" in head
    assert events.startswith(b"data: {")
    assert events.endswith(b"data: [DONE]\n\n")


async def test_a_head_is_asked_for_alone(stage: Stage) -> None:
    last = b"GET /health HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
    answer = await talk(stage.gateway, b"HEAD /v1/models HTTP/1.1\r\nhost: a\r\n\r\n" + last)
    assert statuses(answer) == [200, 200]
    assert b'"object"' not in answer


async def test_a_client_that_closes_its_half_is_taken_to_have_left(stage: Stage) -> None:
    seen = len(stage.wall.seen)
    stage.wall.pace = 0.05
    try:
        body = json.dumps(ask("half", size=4000, **STREAM)).encode()
        reader, writer = await connect(stage.gateway)
        writer.write(post(body))
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write_eof()
        async with asyncio.timeout(10):  # the whole answer would take longer
            rest = await reader.read()
    finally:
        stage.wall.pace = 0.0
        writer.transport.abort()
    assert b"200 OK" in head
    assert b"[DONE]" not in rest

    async def left() -> bool:
        return len(stage.wall.seen) > seen and stage.wall.seen[-1].peer_closed_early

    await until(left, seconds=10)


@pytest.mark.parametrize("start", [b"", b"POST /v1", HEAD, HEAD + b"content-length: 10\r\n\r\n{"])
async def test_a_client_that_closes_its_half_too_soon_is_let_go(stage: Stage, start: bytes) -> None:
    begun = asyncio.get_running_loop().time()
    assert await talk(stage.gateway, start, half_close=True) == b""
    assert asyncio.get_running_loop().time() - begun < REQUEST_S


async def test_what_was_answered_before_the_half_was_closed_arrives(stage: Stage) -> None:
    answer = await talk(stage.gateway, b"GET /v1/models HTTP/1.1\r\nhost: a\r\n\r\n", half_close=True)
    assert statuses(answer) == [200]


async def test_thousands_of_idle_connections_cost_little(stage: Stage) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(2000, hard - 500)
    assert count >= 500, "too few files may be open here to test anything"
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count + 400), hard))
    opened = []
    try:
        async with stage.unaffected(mib=40):
            for _ in range(count // 50):
                opened += await asyncio.gather(*(connect(stage.gateway) for _ in range(50)))
            for _ in range(3):
                await stage.good_request()
    finally:
        for _, writer in opened:
            writer.transport.abort()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_garbage_is_refused_or_ignored(stage: Stage) -> None:
    random = Random(20251122)
    good = post(BODY, b"connection: close")
    garbage = []
    for number in range(300):
        data = bytearray(random.randbytes(random.randrange(1, 600)) if number % 2 else good)
        for _ in range(random.randrange(1, 8)):
            data[random.randrange(len(data))] = random.randrange(256)
        garbage.append(bytes(data))
    async with stage.unaffected(mib=24):
        talks = (
            talk(stage.gateway, data, half_close=number % 2 == 1, patience=3) for number, data in enumerate(garbage)
        )
        answers = await asyncio.gather(*talks)
    for data, answer in zip(garbage, answers, strict=True):
        assert len(statuses(answer)) <= 1, data
        assert not any(status >= 500 and status != 501 for status in statuses(answer)), (data, answer)
