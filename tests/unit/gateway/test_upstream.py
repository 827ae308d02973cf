"""Calls to a replica: what came, in order, or one failure; connections kept, replaced and left."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from secondsource.core.records import Outcome
from secondsource.gateway import upstream
from secondsource.gateway.kept import STAYS_S
from secondsource.gateway.upstream import Fetched, FetchError, Headers, ReplicaClient, Target

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Replica:
    """A server whose every byte is the test's: each connection is given to `serve`."""

    def __init__(self, serve: Serve) -> None:
        self.serve = serve
        self.requests: list[bytes] = []
        self.connections = 0
        self.closed = 0
        self.port = 0
        self.tasks: list[asyncio.Task[None]] = []

    async def read(self, reader: asyncio.StreamReader) -> bytes:
        """Read one request."""
        head = await reader.readuntil(b"\r\n\r\n")
        length = next((int(line[16:]) for line in head.split(b"\r\n") if line.startswith(b"content-length: ")), 0)
        self.requests.append(head + await reader.readexactly(length))
        return self.requests[-1]

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection in a task of its own."""
        self.connections += 1
        self.tasks.append(asyncio.get_running_loop().create_task(self._to_the_end(reader, writer)))

    async def _to_the_end(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self.serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.closed += 1
            writer.close()


@contextlib.asynccontextmanager
async def listening(
    serve: Callable[[Replica, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[Replica]:
    """A replica that listens."""

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await serve(replica, reader, writer)

    replica = Replica(served)
    server = await asyncio.start_server(replica.accept, "127.0.0.1", 0)
    replica.port = server.sockets[0].getsockname()[1]
    try:
        yield replica
    finally:
        server.close()
        for task in replica.tasks:
            task.cancel()
        await asyncio.gather(*replica.tasks, return_exceptions=True)


def answering(*answers: bytes, close: bool = False) -> Callable[..., Awaitable[None]]:
    """Serve these answers, one a request, in pieces of what one write took."""

    async def serve(replica: Replica, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await replica.read(reader)
            writer.write(answer)
            await writer.drain()
        if not close:
            await reader.read()  # until the client leaves

    return serve


def client_of(replica: Replica, connect_s: float = 2.0, host: str = "127.0.0.1") -> ReplicaClient:
    return ReplicaClient(Target(f"http://{host}:{replica.port}", "secret", None), connect_s)


async def get(client: ReplicaClient, limit: int = 1000) -> Fetched:
    return await client.fetch(b"POST", b"/v1/x", b"{}", 5.0, limit)


async def failure(client: ReplicaClient, limit: int = 1000) -> Outcome:
    with pytest.raises(FetchError) as caught:
        await get(client, limit)
    return caught.value.outcome


async def until(true: Callable[[], bool]) -> None:
    """Wait for something to become so."""
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110 -- what is waited for has no event
            await asyncio.sleep(0.005)


class Recorder:
    """Takes a call's answer, and holds who came when."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.body = b""
        self.over = asyncio.Event()

    def on_head(self, status: int, headers: Headers) -> None:
        self.told.append(f"head {status}")

    def on_body(self, data: bytes) -> None:
        self.body += data
        if self.told[-1] != "body":
            self.told.append("body")

    def on_end(self) -> None:
        self.told.append("end")
        self.over.set()

    def on_failed(self, outcome: Outcome, detail: str) -> None:
        self.told.append(f"failed {outcome}")
        self.over.set()


def call(client: ReplicaClient, recorder: Recorder) -> upstream.Call:
    return client.call(client.target.request(b"POST", b"/v1/x", b"{}", b""), recorder)


async def test_a_request_and_its_answer() -> None:
    async with listening(answering(OK)) as replica:
        client = client_of(replica)
        answer = await get(client)
        assert (answer.status, answer.body, answer.headers[b"content-length"]) == (200, b"ok", b"2")
        [request] = replica.requests
        assert request.startswith(b"POST /v1/x HTTP/1.1\r\n")
        assert b"\r\nauthorization: Bearer secret\r\n" in request
        assert b"\r\nhost: 127.0.0.1:%d\r\n" % replica.port in request
        assert request.endswith(b"\r\ncontent-length: 2\r\n\r\n{}")
        client.close()


def test_a_target_keeps_its_path_and_its_port() -> None:
    target = Target("http://host.test:90/base/", None, None)
    assert target.request(b"GET", b"/v1/models", b"", b"").startswith(
        b"GET /base/v1/models HTTP/1.1\r\nhost: host.test:90\r\n"
    )
    assert (Target("https://h", None, None).port, Target("http://h", None, None).port) == (443, 80)


async def test_a_name_is_looked_up_and_each_of_its_addresses_tried() -> None:
    async with listening(answering(OK)) as replica:  # at 127.0.0.1 alone; where there is IPv6, ::1 is tried first
        client = client_of(replica, host="localhost")
        assert (await get(client)).body == b"ok"
        client.close()


async def test_nobody_at_any_address_is_one_failure() -> None:
    async with listening(answering(OK)) as replica:
        client = client_of(replica, host="localhost")
    with pytest.raises(FetchError) as refused:
        await get(client)
    assert refused.value.outcome is Outcome.CONNECT_FAILED


async def test_a_connection_is_kept_and_used_again() -> None:
    async with listening(answering(OK, OK, OK)) as replica:
        client = client_of(replica)
        for _ in range(3):
            assert (await get(client)).body == b"ok"
        assert replica.connections == 1
        client.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
    ],
)
async def test_a_connection_that_is_to_close_is_not_kept(answer: bytes) -> None:
    async with listening(answering(answer)) as replica:
        client = client_of(replica)
        assert [(await get(client)).body for _ in range(2)] == [b"ok", b"ok"]
        assert replica.connections == 2
        client.close()


async def test_a_kept_connection_that_was_closed_is_not_used() -> None:
    async with listening(answering(OK, close=True)) as replica:
        client = client_of(replica)
        for number in range(1, 4):
            assert (await get(client)).body == b"ok"
            await until(lambda: not client._open)
            assert replica.connections == number


async def test_a_kept_connection_that_closes_under_a_request_is_a_failure_and_not_asked_again() -> None:
    """Whether the replica had seen the request nobody knows; policy decides where it goes next."""

    async def serve(replica: Replica, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await replica.read(reader)
        writer.write(OK)
        await replica.read(reader)  # and is hung up on

    async with listening(serve) as replica:
        client = client_of(replica)
        assert (await get(client)).body == b"ok"
        assert await failure(client) is Outcome.RESET
        assert (replica.connections, len(replica.requests)) == (1, 2)


class Relay(Recorder):
    """Asks again as soon as it has its answer, before anything else happens."""

    def __init__(self, client: ReplicaClient, times: int) -> None:
        super().__init__()
        self.client = client
        self.left = times

    def on_end(self) -> None:
        self.told.append("end")
        self.left -= 1
        if self.left:
            call(self.client, self)
        else:
            self.over.set()


STREAM = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nkeep-alive: timeout=5, max=100\r\n\r\n2\r\nok\r\n0\r\n\r\n"


async def test_a_replica_that_closes_after_each_stream_whatever_it_says_loses_no_request() -> None:
    """As llama.cpp's server does."""
    async with listening(answering(STREAM, close=True)) as replica:
        recorder = Relay(client_of(replica), 20)
        call(recorder.client, recorder)
        async with asyncio.timeout(5):
            await recorder.over.wait()
        assert recorder.told == ["head 200", "body", "end"] * 20
        assert replica.connections == len(replica.requests) == 20


async def test_a_replica_that_keeps_a_connection_after_a_stream_is_asked_on_it() -> None:
    async with listening(answering(*[STREAM] * 20)) as replica:
        client = client_of(replica)
        assert (await get(client)).body == b"ok"
        await asyncio.sleep(1.5 * STAYS_S)
        recorder = Relay(client, 19)
        call(client, recorder)
        async with asyncio.timeout(5):
            await recorder.over.wait()
        assert (replica.connections, len(replica.requests)) == (1, 20)
        client.close()


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (b"", Outcome.RESET),
        (b"HTTP/1.1 200 OK\r\n", Outcome.RESET),
        (b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n", Outcome.RESET),
        (b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-le", Outcome.RESET),
        (b"HTTP/1.1 100 Continue\r\n\r\n", Outcome.RESET),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nok", Outcome.CUT),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n", Outcome.CUT),
        (b"SSH-2.0-OpenSSH\r\n", Outcome.GARBLED),
        (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", Outcome.GARBLED),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", Outcome.GARBLED),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok", Outcome.GARBLED),
    ],
)
async def test_every_way_to_break_off(answer: bytes, outcome: Outcome) -> None:
    async with listening(answering(answer, close=True)) as replica:
        recorder = Recorder()
        call(client_of(replica), recorder)
        async with asyncio.timeout(5):
            await recorder.over.wait()
        assert recorder.told[-1] == f"failed {outcome}"
        assert recorder.told.count("end") == 0


async def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    async with listening(answering(b"HTTP/1.1 200 OK\r\ncontent-type: x\r\n\r\nall of it", close=True)) as replica:
        assert (await get(client_of(replica))).body == b"all of it"


async def test_an_interim_answer_is_not_the_answer() -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nretry-after: 99\r\n\r\n"
    async with listening(answering(interim + OK)) as replica:
        client = client_of(replica)
        answer = await get(client)
        assert (answer.status, answer.body) == (200, b"ok")
        assert b"retry-after" not in answer.headers
        client.close()


async def test_an_answer_that_nobody_asked_for_is_not_the_answer() -> None:
    other = b"HTTP/1.1 500 No\r\ncontent-length: 3\r\n\r\nbad"
    async with listening(answering(OK + other, OK + other)) as replica:
        client = client_of(replica)
        for _ in range(2):
            recorder = Recorder()
            call(client, recorder)
            await recorder.over.wait()
            assert (recorder.told, recorder.body) == (["head 200", "body", "end"], b"ok")
        assert replica.connections == 2  # such a replica's connection is not used again
        client.close()


async def test_an_answer_over_the_limit_is_not_gathered() -> None:
    big = b"HTTP/1.1 200 OK\r\ncontent-length: 3000\r\n\r\n" + b"x" * 3000
    async with listening(answering(big)) as replica:
        assert await failure(client_of(replica), limit=2999) is Outcome.GARBLED
        assert len((await get(client_of(replica), limit=3000)).body) == 3000


async def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        client = ReplicaClient(Target(f"http://127.0.0.1:{port}", None, None), 2.0)
        assert await failure(client) is Outcome.CONNECT_FAILED


async def test_a_connection_that_is_reset_as_soon_as_it_is_made_fails_and_hangs_nobody() -> None:
    async def serve(replica: Replica, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async with listening(serve) as replica:
        client = client_of(replica)
        for _ in range(20):
            assert await failure(client) in (Outcome.RESET, Outcome.CUT, Outcome.CONNECT_FAILED)


async def test_an_answer_in_any_pieces() -> None:
    whole = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n"

    async def serve(replica: Replica, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await replica.read(reader)
        for place in range(len(whole)):
            writer.write(whole[place : place + 1])
            await asyncio.sleep(0)
        await reader.read()

    async with listening(serve) as replica:
        recorder = Recorder()
        client = client_of(replica)
        call(client, recorder)
        await recorder.over.wait()
        assert (recorder.told, recorder.body) == (["head 200", "body", "end"], b"abcd")
        client.close()


async def test_an_aborted_call_is_told_nothing_and_closes_its_connection() -> None:
    async with listening(answering(OK[:-1])) as replica:
        recorder = Recorder()
        client = client_of(replica)
        under_way = call(client, recorder)
        await until(lambda: bool(recorder.told))
        told = list(recorder.told)
        under_way.abort()
        await until(lambda: replica.closed == 1)
        assert recorder.told == told


async def test_a_call_aborted_while_it_dials_sends_nothing() -> None:
    async with listening(answering(OK)) as replica:
        recorder = Recorder()
        call(client_of(replica), recorder).abort()
        await asyncio.sleep(0.05)
        assert recorder.told == []
        assert replica.requests == []


async def test_a_call_that_is_left_keeps_its_connection_when_its_message_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "LEAVE_GRACE_S", 0.5)
    go_on = asyncio.Event()

    async def serve(replica: Replica, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await replica.read(reader)
        writer.write(OK[:-1])
        await go_on.wait()
        writer.write(OK[-1:])
        await replica.read(reader)
        writer.write(OK)
        await reader.read()

    async with listening(serve) as replica:
        recorder = Recorder()
        client = client_of(replica)
        under_way = call(client, recorder)
        await until(lambda: bool(recorder.told))
        under_way.leave()
        go_on.set()
        await asyncio.sleep(0.7)  # past the time at which it would be closed
        assert (await get(client)).body == b"ok"
        assert replica.connections == 1
        assert "end" not in recorder.told
        client.close()


async def test_a_call_that_is_left_is_closed_when_its_message_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "LEAVE_GRACE_S", 0.05)
    async with listening(answering(OK[:-1])) as replica:
        recorder = Recorder()
        under_way = call(client_of(replica), recorder)
        await until(lambda: bool(recorder.told))
        under_way.leave()
        await until(lambda: replica.closed == 1)


async def test_a_paused_call_holds_its_replica_back() -> None:
    sent = 0

    async def serve(replica: Replica, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await replica.read(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(400):
            writer.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
            await writer.drain()
            sent += 0x10000
        writer.write(b"0\r\n\r\n")
        await reader.read()

    async with listening(serve) as replica:
        recorder = Recorder()
        client = client_of(replica)
        under_way = call(client, recorder)
        under_way.pause(paused=True)
        await asyncio.sleep(0.3)
        assert sent < 400 * 0x10000
        assert len(recorder.body) <= 1 << 20
        under_way.pause(paused=False)
        async with asyncio.timeout(20):
            await recorder.over.wait()
        assert len(recorder.body) == 400 * 0x10000
        client.close()


class LeavesAtOnce:
    """A handler that offers a short way with the first bytes of the answer, and leaves the call at the second."""

    def __init__(self) -> None:
        self.call: upstream.Call | None = None
        self.handed_over = 0
        self.heard: list[bytes] = []
        self.left = asyncio.Event()

    def on_head(self, status: int, headers: Headers) -> None:
        """Take the head."""

    def on_body(self, data: bytes) -> None:
        """Offer, then leave."""
        self.heard.append(data)
        assert self.call is not None
        self.call.fast_path = self  # type: ignore[assignment]  # as far as it is asked anything
        if len(self.heard) == 2:
            self.call.abort()
            self.left.set()

    def on_end(self) -> None:
        """Take the end."""

    def on_failed(self, outcome: Outcome, detail: str) -> None:
        """Take a failure."""

    def take(self, data: bytes) -> int:
        """Pass nothing on."""
        return 0

    def hand_over(self, *given: object) -> None:
        """Count it."""
        self.handed_over += 1


async def test_a_call_that_is_left_in_the_middle_of_a_read_is_not_handed_over() -> None:
    async def serve(replica: Replica, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await replica.read(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nf\r\ndata: one event\r\n")
        await asyncio.sleep(0.05)
        writer.write(b"f\r\ndata: two event\r\n")
        await reader.read()

    async with listening(serve) as replica:
        client, handler = client_of(replica), LeavesAtOnce()
        handler.call = client.call(client.target.request(b"GET", b"/", b"", b""), handler)
        await asyncio.wait_for(handler.left.wait(), 10)
        await asyncio.sleep(0)
        assert handler.handed_over == 1
        client.close()
