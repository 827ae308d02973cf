"""Client connections: HTTP/1.1 in whatever pieces, one request at a time in order, and an answer to every wrong one."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable

import pytest

from secondsource.gateway.client import ClientConnection, Exchange, Request

BODY_LIMIT, HEADER_LIMIT = 1000, 2000


class Running:
    """An exchange that its test ends."""

    def __init__(self, connection: ClientConnection, request: Request) -> None:
        self.connection = connection
        self.request = request
        self.gone = 0
        self.reads: list[bool] = []

    def client_gone(self) -> None:
        self.gone += 1

    def client_reads(self, *, ready: bool) -> None:
        self.reads.append(ready)

    def answer(self, body: bytes = b"later") -> None:
        self.connection.respond(200, body, [(b"x-path", self.request.path.encode())], b"text/plain")


class Application:
    """Answers `/now…` at once and leaves everything else to the test."""

    body_limit = BODY_LIMIT
    header_limit = HEADER_LIMIT

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.running: list[Running] = []
        self.refusals: list[int] = []
        self.connections: set[ClientConnection] = set()
        self.held = 0
        self.may_hold = 1 << 30

    def hold(self, size: int) -> bool:
        self.held += size
        return self.held <= self.may_hold

    def opened(self, connection: ClientConnection) -> None:
        self.connections.add(connection)

    def closed(self, connection: ClientConnection) -> None:
        self.connections.discard(connection)

    def refused(self, status: int, message: str) -> bytes:
        self.refusals.append(status)
        return b"req_0"

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def handle(self, request: Request, connection: ClientConnection) -> Exchange | None:
        self.requests.append(request)
        if request.path.startswith("/now"):
            connection.respond(200, request.body, [(b"x-path", request.path.encode())], b"text/plain")
            return None
        self.running.append(Running(connection, request))
        return self.running[-1]


class Client:
    """One raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            if len(pieces) > 1:
                await asyncio.sleep(0)

    async def answer(self, *, body: bool = True) -> tuple[int, dict[bytes, bytes], bytes]:
        """Read one whole answer of a known length."""
        async with asyncio.timeout(5):
            head = await self.reader.readuntil(b"\r\n\r\n")
            lines = head.split(b"\r\n")
            headers = dict(line.split(b": ", 1) for line in lines[1:] if line)
            length = int(headers.get(b"content-length", b"0")) if body else 0
            return int(lines[0].split()[1]), headers, await self.reader.readexactly(length)

    async def rest(self) -> bytes:
        """Read until the server closes."""
        async with asyncio.timeout(5):
            return await self.reader.read()


@contextlib.asynccontextmanager
async def talking() -> AsyncIterator[tuple[Application, Client]]:
    """An application that listens, and a connection to it."""
    application = Application()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: ClientConnection(application), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
    try:
        yield application, Client(reader, writer)
    finally:
        writer.close()
        server.close()
        for connection in list(application.connections):
            connection.abort()
        await asyncio.sleep(0)


async def until_running(application: Application, count: int = 1) -> Running:
    async with asyncio.timeout(5):
        while len(application.running) < count:  # noqa: ASYNC110 -- what is waited for has no event
            await asyncio.sleep(0.005)
    return application.running[count - 1]


def post(path: str, body: bytes = b"", *headers: str, version: str = "1.1") -> bytes:
    lines = [f"POST {path} HTTP/{version}", "host: x", *headers, f"content-length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def chunks(*bodies: bytes) -> bytes:
    head = b"POST /now HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%b\r\n" % (len(body), body) for body in bodies)


async def test_a_request_in_any_pieces_on_a_kept_connection() -> None:
    async with talking() as (application, client):
        request = post("/now?x=1", b"hello", "X-Thing: One")
        await client.send(request)
        await client.send(*(request[place : place + 1] for place in range(len(request))))
        for _ in range(2):
            status, headers, body = await client.answer()
            assert (status, headers[b"x-path"], body) == (200, b"/now", b"hello")
            assert b"connection" not in headers
        assert [request.headers[b"x-thing"] for request in application.requests] == [b"One", b"One"]


async def test_a_body_in_chunks() -> None:
    async with talking() as (application, client):
        await client.send(chunks(b"hel", b"lo") + b"0\r\nauthorization: Bearer late\r\n\r\n")
        assert (await client.answer())[2] == b"hello"
        assert b"authorization" not in application.requests[0].headers  # a trailer says nothing of who asks


async def test_pipelined_requests_are_answered_in_order_and_one_at_a_time() -> None:
    async with talking() as (application, client):
        await client.send(post("/now1") + post("/slow2") + post("/now3") + post("/slow4") + post("/now5"))
        first = await until_running(application)
        assert [request.path for request in application.requests] == ["/now1", "/slow2"]
        first.answer()
        (await until_running(application, 2)).answer()
        paths = [(await client.answer())[1][b"x-path"] for _ in range(5)]
        assert paths == [b"/now1", b"/slow2", b"/now3", b"/slow4", b"/now5"]


async def test_a_long_pipeline_of_quick_answers() -> None:
    async with talking() as (_, client):
        await client.send(b"".join(post(f"/now{number}") for number in range(200)))
        paths = [(await client.answer())[1][b"x-path"] for _ in range(200)]
        assert paths == [b"/now%d" % number for number in range(200)]


async def test_a_pipeline_longer_than_is_read_ahead_is_answered_whole_and_in_order() -> None:
    async with talking() as (application, client):
        count = 3000  # 150 kB: more than is parsed at once, and than is read at once
        await client.send(b"".join(post(f"/slow{number}") for number in range(count)))
        most = 0
        for number in range(count):
            running = await until_running(application, number + 1)
            most = max(most, len(running.connection._waiting))
            running.answer()
            assert (await client.answer())[1][b"x-path"] == b"/slow%d" % number
        assert most < 500, "small requests are parsed a few hundred at a time"
        await client.send(post("/now"))
        assert (await client.answer())[0] == 200


@pytest.mark.parametrize(
    ("version", "header", "kept"),
    [
        ("1.1", "x-nothing: 1", True),
        ("1.1", "connection: close", False),
        ("1.0", "x-nothing: 1", False),
        ("1.0", "connection: keep-alive", True),
    ],
)
async def test_who_keeps_the_connection(version: str, header: str, kept: bool) -> None:
    async with talking() as (_, client):
        await client.send(post("/now", b"", header, version=version))
        _, headers, _ = await client.answer()
        assert (headers.get(b"connection") == b"close") is not kept
        if kept:
            await client.send(post("/now"))
            assert (await client.answer())[0] == 200
        else:
            assert await client.rest() == b""


async def test_a_head_request_gets_no_body() -> None:
    async with talking() as (_, client):
        await client.send(b"HEAD /now HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi" + post("/now", b"yes"))
        _, headers, _ = await client.answer(body=False)
        assert headers[b"content-length"] == b"2"
        assert (await client.answer())[2] == b"yes"


async def test_a_stream_is_chunked() -> None:
    async with talking() as (application, client):
        await client.send(post("/slow"))
        running = await until_running(application)
        running.connection.start_stream([], b"text/event-stream", b"one")
        running.connection.send(b"two")
        running.connection.end_stream(b"three")
        await client.send(post("/now", b"next"))
        head = await client.reader.readuntil(b"\r\n\r\n")
        assert b"transfer-encoding: chunked\r\n" in head
        body = await client.reader.readuntil(b"0\r\n\r\n")
        assert body == b"3\r\none\r\n3\r\ntwo\r\n5\r\nthree\r\n0\r\n\r\n"
        assert (await client.answer())[2] == b"next"


async def test_a_stream_to_an_old_client_ends_with_the_connection() -> None:
    async with talking() as (application, client):
        await client.send(post("/slow", b"", "connection: keep-alive", version="1.0"))
        running = await until_running(application)
        running.connection.start_stream([], b"text/event-stream", b"one")
        running.connection.end_stream(b"two")
        head, _, body = (await client.rest()).partition(b"\r\n\r\n")
        assert b"chunked" not in head
        assert b"connection: close" in head
        assert body == b"onetwo"


async def test_a_client_that_leaves_is_told_of_once() -> None:
    async with talking() as (application, client):
        await client.send(post("/slow"))
        running = await until_running(application)
        running.connection.start_stream([], b"text/event-stream", b"one")
        client.writer.transport.abort()
        async with asyncio.timeout(5):
            while application.connections:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        assert running.gone == 1
        running.connection.send(b"two")  # to nobody, and no error


async def test_a_client_that_leaves_before_its_request_is_whole_is_nobody() -> None:
    async with talking() as (application, client):
        await client.send(post("/now", b"hello")[:-1])
        await asyncio.sleep(0.02)
        client.writer.close()
        async with asyncio.timeout(5):
            while application.connections:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        assert application.requests == []
        assert application.refusals == []


@pytest.mark.parametrize("size", [BODY_LIMIT, BODY_LIMIT + 1])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_the_limit(size: int, chunked: bool) -> None:
    async with talking() as (application, client):
        body = b"x" * size
        request = chunks(body[:500], body[500:]) + b"0\r\n\r\n" if chunked else post("/now", body)
        await client.send(request)
        status, headers, _ = await client.answer()
        assert status == (200 if size == BODY_LIMIT else 413)
        if status == 413:
            assert headers[b"connection"] == b"close"
            assert b"x-request-id" in headers
            assert application.requests == []
            assert await client.rest() == b""


async def test_a_body_over_the_limit_is_refused_before_it_is_sent() -> None:
    async with talking() as (_, client):
        await client.send(b"POST /now HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 1001\r\n\r\n")
        assert (await client.answer())[0] == 413


async def test_a_client_that_asks_before_it_sends_is_told_to_go_on() -> None:
    async with talking() as (_, client):
        await client.send(b"POST /now HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"hi")
        assert (await client.answer())[2] == b"hi"


async def test_no_interim_answer_runs_into_the_one_before() -> None:
    asks = b"POST /now HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n"
    async with talking() as (application, client):
        await client.send(post("/slow"))
        running = await until_running(application)
        running.connection.start_stream([], b"text/event-stream", b"one")
        await client.send(asks)
        await asyncio.sleep(0.02)
        running.connection.end_stream(b"two")
        _, _, body = (await client.reader.readuntil(b"0\r\n\r\n")).partition(b"\r\n\r\n")
        assert body == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
        await client.send(b"hi")
        read = await client.reader.readuntil(b"\r\n\r\nhi")
        assert read.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n").startswith(b"HTTP/1.1 200 OK\r\n")


async def test_an_old_client_is_not_told_to_go_on() -> None:
    async with talking() as (_, client):
        await client.send(b"POST /now HTTP/1.0\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\nhi")
        assert (await client.answer())[0] == 200


@pytest.mark.parametrize(
    "request_line",
    [
        b"GET /" + b"x" * HEADER_LIMIT + b" HTTP/1.1\r\nhost: x\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\nx: " + b"x" * HEADER_LIMIT + b"\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\n" + b"".join(b"x%d: y\r\n" % number for number in range(300)),
    ],
)
async def test_a_head_over_the_limit(request_line: bytes) -> None:
    async with talking() as (application, client):
        await client.send(request_line + b"\r\n")
        status, headers, _ = await client.answer()
        assert (status, headers[b"connection"]) == (431, b"close")
        assert await client.rest() == b""
        assert application.requests == []


@pytest.mark.parametrize(
    "start",
    [
        b"GET / HTTP/1.1\r\nhost: x\r\nx: ",
        b"GET /",
        b"POST /now HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: ",
    ],
)
async def test_a_head_without_end_is_not_gathered(start: bytes) -> None:
    async with talking() as (application, client):
        await client.send(start)
        for _ in range(2 * HEADER_LIMIT // 100):
            await client.send(b"x" * 100)
            await asyncio.sleep(0)
        assert (await client.answer())[0] == 431
        assert application.requests == []


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # a TLS hello
        b"hello\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /now HTTP/1.1\nhost: x\n\n",
        b"GET /now HTTP/1.1\r\nhost : x\r\n\r\n",
        b"GET /now HTTP/1.1\r\nhost: x\r\nx: a\x00b\r\n\r\n",
        b"GET /now HTTP/1.1\r\nhost: x\r\nx: a\r\n folded\r\n\r\n",
        b"POST /now HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /now HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n",
        b"POST /now HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nhello",
        b"POST /now HTTP/1.1\r\nhost: x\r\ncontent-length: +4\r\n\r\nhell",
        b"POST /now HTTP/1.1\r\nhost: x\r\ncontent-length: 4, 4\r\n\r\nhell",
        b"POST /now HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999999999999\r\n\r\n",
        b"POST /now HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"POST /now HTTP/1.1\r\nhost: x\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n",
        b"POST /now HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0x1\r\nz\r\n0\r\n\r\n",
        b"POST /now HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\nzz\r\n0\r\n\r\n",
        b"POST /now HTTP/1.1\r\nhost: x\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    ],
)
async def test_what_two_servers_could_read_two_ways_is_refused(garbage: bytes) -> None:
    async with talking() as (application, client):
        await client.send(garbage)
        status, headers, body = await client.answer()
        assert status in (400, 501)
        assert headers[b"connection"] == b"close"
        assert re.search(rb'^\{"error":\{"message":"[^"]', body)
        assert await client.rest() == b""
        assert application.requests == []


async def test_garbage_after_a_request_waits_for_its_answer_and_closes() -> None:
    async with talking() as (application, client):
        await client.send(post("/slow") + b"garbage\r\n\r\n")
        (await until_running(application)).answer(b"first")
        assert (await client.answer())[2] == b"first"
        assert await client.rest() == b""


async def test_what_is_sent_after_a_refusal_does_not_swallow_the_answer() -> None:
    async with talking() as (_, client):
        await client.send(b"POST /now HTTP/1.1\r\nhost: x\r\ncontent-length: 5000000\r\n\r\n")
        for _ in range(40):
            await client.send(b"x" * 65536)
        assert (await client.answer())[0] == 413


async def test_an_offer_of_another_protocol_is_passed_over() -> None:
    offer = ("connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAMAAABk")
    async with talking() as (_, client):
        await client.send(post("/now1", b"hello", *offer) + post("/now2"))
        assert (await client.answer())[2] == b"hello"
        assert (await client.answer())[1][b"x-path"] == b"/now2"


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_bodies_are_counted_as_long_as_they_are_held() -> None:
    async with talking() as (application, client):
        await client.send(post("/slow", b"x" * 500) + post("/slow", b"y" * 300) + post("/slow", b"z" * 1000)[:-600])
        running = await until_running(application)
        assert application.held == 1200
        running.answer()
        await until_running(application, 2)
        assert application.held == 700
        client.writer.transport.abort()
        async with asyncio.timeout(5):
            while application.connections:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        assert application.held == 0


@pytest.mark.parametrize("chunked", [False, True])
async def test_what_is_too_much_for_all_clients_together_is_refused(chunked: bool) -> None:
    async with talking() as (application, client):
        application.may_hold = 1000
        application.hold(900)  # others'
        await client.send(chunks(b"x" * 200) + b"0\r\n\r\n" if chunked else post("/now", b"x" * 200))
        status, headers, _ = await client.answer()
        assert (status, headers[b"retry-after"], headers[b"connection"]) == (503, b"1", b"close")
        assert application.held == 900


async def test_a_refusal_lets_go_of_its_own_body_only() -> None:
    async with talking() as (application, client):
        await client.send(post("/slow", b"x" * 500))
        running = await until_running(application)
        await client.send(b"POST /now HTTP/1.1\r\nhost: x\r\ncontent-length: 900\r\n\r\n" + b"y" * 600)
        await until(lambda: application.held == 1100)
        await client.send(b"y" * 300 + b"no request at all\r\n\r\n")
        await until(lambda: application.held == 1400)  # whole, and it waits
        running.answer()
        assert (await client.answer())[1][b"x-path"] == b"/slow"
        await client.rest()
        await until(lambda: application.held == 0)
