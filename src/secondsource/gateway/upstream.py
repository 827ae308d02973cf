"""Kept-alive HTTP/1.1 connections to replicas; a protocol each, parsed by llhttp, one call at a time.

A `Call` tells its handler what came, in the order head, body, end, or fails once. A call on a kept connection that
closes without a byte is a failure like any other: the replica may have read it, so it is policy's to ask again.
"""

import asyncio
import socket
import ssl
import time
from typing import Protocol
from urllib.parse import urlsplit

import httptools
import msgspec

from secondsource import __version__
from secondsource.core.records import Outcome
from secondsource.gateway.fast_path import FastPath, ends_a_chunk
from secondsource.gateway.kept import Kept
from secondsource.gateway.pump.pump import Passage

LEAVE_GRACE_S = 1.0
MOST_HEADERS = 100
LONG_READ = 128 * 1024  # bytes at once: there is more, and libuv would read megabytes on before anybody else's turn
Headers = dict[bytes, bytes]


class AnswerHandler(Protocol):
    """Who wants a call's answer. Each method is called from the event loop and must not block."""

    def on_head(self, status: int, headers: Headers) -> None:
        """Take the answer's status and headers (names in lower case)."""

    def on_body(self, data: bytes) -> None:
        """Take the next bytes of the body."""

    def on_end(self) -> None:
        """Note that the whole answer has come."""

    def on_failed(self, outcome: Outcome, detail: str) -> None:
        """Note that the call failed; nothing follows."""


class Target:
    """Where a replica listens, and what is sent at the head of each request to it."""

    def __init__(self, url: str, token: str | None, tls: ssl.SSLContext | None) -> None:
        parts = urlsplit(url)
        self.host = parts.hostname or ""
        self.port = parts.port or (443 if parts.scheme == "https" else 80)
        self.tls = tls if parts.scheme == "https" else None
        self.prefix = parts.path.rstrip("/").encode()
        lines = [
            b"host: " + parts.netloc.encode(),
            b"user-agent: secondsource/" + __version__.encode(),
            b"accept-encoding: identity",
            b"endpoint-load-metrics-format: TEXT",  # ORCA: vLLM and Triton say nothing of their load unless asked
        ]
        if token is not None:
            lines.append(b"authorization: Bearer " + token.encode())
        self._head = b"\r\n".join(lines) + b"\r\n"

    def request(self, method: bytes, path: bytes, body: bytes, extra: bytes) -> bytes:
        """Return a request as bytes; `extra` is whole header lines."""
        start = method + b" " + self.prefix + path + b" HTTP/1.1\r\n" + self._head + extra
        if method == b"GET":
            return start + b"\r\n"
        return start + b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body


class UpstreamConnection(asyncio.Protocol):
    """One connection to a replica."""

    __slots__ = (
        "_answered",
        "_between_chunks",
        "_body",
        "_headers",
        "_keep",
        "_parser",
        "_passage",
        "_paused",
        "call",
        "client",
        "ended",
        "had_stream",
        "kept_since",
        "transport",
    )

    def __init__(self, client: "ReplicaClient") -> None:
        self.client = client
        self.call: Call | None = None
        self.transport: asyncio.Transport | None = None
        self.kept_since = 0.0
        self.had_stream = False  # as its last answer, and no other has begun
        self._parser = httptools.HttpResponseParser(self)  # one message after another
        self._headers: Headers = {}
        self._body: list[bytes] = []
        self._answered = False  # the head has come
        self._between_chunks = False  # llhttp waits for the size of a chunk, for all we know
        self.ended = False
        self._paused = False
        self._keep = False
        self._passage: Passage | None = None  # the pump reads meanwhile, and nobody else

    def begin(self, call: "Call", request: bytes) -> None:
        """Send a request and give its answer to the call."""
        assert self.transport is not None
        self.call = call
        self._answered = self.ended = self._between_chunks = False
        self.transport.write(request)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: connected."""
        self.transport = transport  # type: ignore[assignment]  # a stream transport, by create_connection

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes of the answer."""
        call = self.call
        if call is None:
            self.close()  # a replica that speaks unasked is not to be trusted with the next request
            return
        size = len(data)
        if self._between_chunks and call.fast_path is not None:
            taken = call.fast_path.take(data)
            if taken == size < LONG_READ:
                self._hand_over(call.fast_path)
                return
            data = data[taken:] if taken else data
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._hand_on()
            self._fail(Outcome.GARBLED, f"not HTTP: {type(error).__name__}")
            return
        if self._body and self.call is call:
            last = self._body[-1]
            self._hand_on()
            fast_path = call.fast_path if self.call is call else None  # the answer may have been left meanwhile
            self._between_chunks = fast_path is not None and ends_a_chunk(data, last)
            if fast_path is not None and self._between_chunks and size < LONG_READ:
                self._hand_over(fast_path)
        if self.ended and self.call is call:
            self._finish()
        elif size >= LONG_READ and not self._paused:
            self.pause(paused=True)
            asyncio.get_running_loop().call_soon(self._take_turn, call)

    def _hand_over(self, fast_path: FastPath) -> None:
        if self.transport is not None and not self._paused:
            self._passage = fast_path.hand_over(self.transport, self._given_back)
            if self._passage is not None:
                self.transport.pause_reading()

    def _given_back(self) -> None:
        """Go on where the pump stopped."""
        passage, self._passage, call = self._passage, None, self.call
        assert passage is not None
        unread = passage.end()
        if self.transport is not None and not self._paused:
            self.transport.resume_reading()
        if unread and call is not None:
            self.data_received(unread)
        if call is not None and self.call is call and call.fast_path is not None:
            call.fast_path.note()  # it is not counted in the pump's way any more

    def catch_up(self) -> bool:
        """Have what the pump has passed on noted; returns whether there was anything."""
        return self._passage is not None and self._passage.catch_up()

    def _take_turn(self, call: "Call") -> None:
        if self.call is call:
            self.pause(paused=call.paused)

    def _hand_on(self) -> None:
        if self._body and self.call is not None:
            data = self._body[0] if len(self._body) == 1 else b"".join(self._body)
            self._body.clear()
            self.call.handler.on_body(data)

    def _finish(self) -> None:
        call, self.call = self.call, None
        assert call is not None
        call.connection = None
        if self._keep:
            self.client.keep(self, streamed=b"transfer-encoding" in self._headers)
        else:
            self.close()
        call.handler.on_end()

    def on_message_begin(self) -> None:
        """llhttp: an answer begins; what an interim one (1xx) said is not the answer's."""
        self._headers = {}
        if self.ended:
            self._keep = False  # a second answer, which nobody asked for

    def on_header(self, name: bytes, value: bytes) -> None:
        """llhttp: one header."""
        if len(self._headers) < MOST_HEADERS:
            self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """llhttp: the head is whole; an interim answer is not the answer."""
        status = self._parser.get_status_code()
        if status >= 200 and self.call is not None and not self.ended:
            self._answered, self.had_stream = True, False
            self.call.handler.on_head(status, self._headers)

    def on_body(self, body: bytes) -> None:
        """llhttp: bytes of the body, without their chunk framing."""
        if not self.ended:
            self._body.append(body)

    def on_message_complete(self) -> None:
        """llhttp: the answer is whole."""
        if self._parser.get_status_code() >= 200 and not self.ended:
            self.ended = True
            self._keep = self._parser.should_keep_alive()  # llhttp forgets once this returns

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: closed, by either side."""
        self.client.forget(self)
        del self._parser  # which knows us: both are freed at once, and not by a collection later
        call = self.call
        if call is None:
            return
        detail = type(exc).__name__ if exc else "closed by the replica"
        if exc is None and self._ends_by_closing():
            self.call = None
            call.connection = None
            call.handler.on_end()
        else:
            self._fail(Outcome.CUT if self._answered else Outcome.RESET, detail)

    def _ends_by_closing(self) -> bool:
        """Return whether the body had no length, so that its end is the connection's."""
        framed = b"content-length" in self._headers or b"transfer-encoding" in self._headers
        return self._answered and not framed

    def _fail(self, outcome: Outcome, detail: str) -> None:
        call, self.call = self.call, None
        self.close()
        if call is not None:
            call.connection = None
            call.handler.on_failed(outcome, detail)

    def pause(self, *, paused: bool) -> None:
        """Stop or go on reading, so that a slow client holds back its own replica."""
        if paused and self._passage is not None:
            self._given_back()
        if self.transport is not None and paused is not self._paused and not self.transport.is_closing():
            self._paused = paused
            if paused:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    def is_open(self) -> bool:
        """Return whether neither side has closed it, as far as is known."""
        return self.transport is not None and not self.transport.is_closing()

    def close(self) -> None:
        """Close without waiting for what is unsent."""
        passage, self._passage = self._passage, None
        if passage is not None:
            passage.end()
        if self.transport is not None:
            self.transport.abort()


class Call:
    """One request to one replica."""

    __slots__ = ("_client", "_dialling", "_request", "_timeout_s", "connection", "fast_path", "handler", "paused")

    def __init__(self, client: "ReplicaClient", request: bytes, handler: AnswerHandler, timeout_s: float) -> None:
        self._client = client
        self._request = request
        self._timeout_s = timeout_s
        self._dialling: asyncio.Task[None] | None = None
        self.paused = False
        self.handler = handler
        self.fast_path: FastPath | None = None  # for what the handler need not see
        self.connection: UpstreamConnection | None = None

    def start(self) -> None:
        """Send on a kept connection, or dial one."""
        kept = self._client.take()
        if kept is None:
            self.dial()
        else:
            self.connection = kept
            kept.begin(self, self._request)

    def dial(self) -> None:
        """Open a new connection and send on it."""
        self.connection = None
        self._dialling = asyncio.get_running_loop().create_task(self._dial())

    async def _dial(self) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                connection = await self._client.connect()
        except TimeoutError:
            self.handler.on_failed(Outcome.CONNECT_FAILED, "no connection in time")
        except (OSError, ssl.SSLError, UnicodeError) as error:
            self.handler.on_failed(Outcome.CONNECT_FAILED, _reason(error))
        else:
            self.connection = connection
            connection.begin(self, self._request)
            connection.pause(paused=self.paused)
        finally:
            self._dialling = None

    def abort(self) -> None:
        """Leave the call: nothing more is handed on, and the replica sees its connection closed."""
        if self._dialling is not None:
            self._dialling.cancel()
        if self.connection is not None:
            self.connection.call = None
            self.connection.close()
            self.connection = None

    def leave(self) -> None:
        """Take no more of the answer, which is complete; the connection is kept if its message ends promptly."""
        if self.connection is None:
            return
        self.handler = _Nobody()
        self.fast_path = None
        asyncio.get_running_loop().call_later(LEAVE_GRACE_S, self.abort)

    def catch_up(self) -> bool:
        """Have what has been passed on unseen noted; returns whether there was anything."""
        return self.connection is not None and self.connection.catch_up()

    def pause(self, *, paused: bool) -> None:
        """Stop or go on reading the answer, also one that has yet to come."""
        self.paused = paused
        if self.connection is not None:
            self.connection.pause(paused=paused)


def _reason(error: OSError | ssl.SSLError | UnicodeError) -> str:
    return getattr(error, "strerror", None) or type(error).__name__


class _Nobody:
    """Takes what is left of an answer that is complete already."""

    def on_head(self, status: int, headers: Headers) -> None:
        pass

    def on_body(self, data: bytes) -> None:
        pass

    def on_end(self) -> None:
        pass

    def on_failed(self, outcome: Outcome, detail: str) -> None:
        pass


class ReplicaClient:
    """The connections to one replica."""

    def __init__(self, target: Target, connect_timeout_s: float) -> None:
        self.target = target
        self._connect_timeout_s = connect_timeout_s
        self.learning = asyncio.Lock()  # held by who finds out how its engine continues; the others wait for that
        self._kept: Kept[UpstreamConnection] = Kept()
        self._open: set[UpstreamConnection] = set()

    def reload(self, connect_timeout_s: float) -> None:
        """Wait this long for connections from now on."""
        self._connect_timeout_s = connect_timeout_s

    def call(self, request: bytes, handler: AnswerHandler) -> Call:
        """Send a request; its answer goes to the handler. The call may fail before this returns a byte."""
        call = Call(self, request, handler, self._connect_timeout_s)
        call.start()
        return call

    async def fetch(self, method: bytes, path: bytes, body: bytes, timeout_s: float | None, limit: int) -> "Fetched":
        """Return a whole answer; raises FetchError when there is none within the time (if any) and size given."""
        waiter = _Waiter(limit)
        call = self.call(self.target.request(method, path, body, b""), waiter)
        try:
            async with asyncio.timeout(timeout_s):
                return await waiter.future
        except TimeoutError:
            raise FetchError(Outcome.FIRST_TOKEN_TIMEOUT, "no answer in time") from None
        finally:
            call.abort()

    async def connect(self) -> UpstreamConnection:
        """Return a new connection, to the first of the replica's addresses that takes one; raises OSError."""
        target, loop = self.target, asyncio.get_running_loop()
        failed = OSError(f"{target.host} has no address")
        # Looked up here: a look-up that `create_connection` was cancelled in fails later, and is logged as nobody's.
        for *_, address in await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM):
            try:
                _, connection = await loop.create_connection(
                    lambda: UpstreamConnection(self),
                    *address[:2],
                    ssl=target.tls,
                    server_hostname=target.host if target.tls else None,
                )
            except OSError as error:
                failed = error
                continue
            self._open.add(connection)
            return connection
        raise failed

    def take(self) -> UpstreamConnection | None:
        """Return a kept connection, or None."""
        return self._kept.take(time.monotonic())

    def keep(self, connection: UpstreamConnection, *, streamed: bool) -> None:
        """Keep a connection for the next call; `streamed`: its answer came in chunks."""
        connection.pause(paused=False)
        if not self._kept.keep(connection, time.monotonic(), streamed=streamed):
            connection.close()

    def forget(self, connection: UpstreamConnection) -> None:
        """Drop a closed connection."""
        self._open.discard(connection)
        self._kept.closed(connection, time.monotonic())

    def close(self) -> None:
        """Close every connection."""
        for connection in list(self._open):
            connection.close()


class Fetched(msgspec.Struct, frozen=True):
    """A whole answer."""

    status: int
    headers: Headers
    body: bytes


class FetchError(Exception):
    """A call that brought no whole answer."""

    def __init__(self, outcome: Outcome, detail: str) -> None:
        super().__init__(detail)
        self.outcome = outcome
        self.detail = detail


class _Waiter:
    """Gathers an answer for `fetch`."""

    def __init__(self, limit: int) -> None:
        self.future: asyncio.Future[Fetched] = asyncio.get_running_loop().create_future()
        self._limit = limit
        self._status = 0
        self._headers: Headers = {}
        self._body = bytearray()

    def on_head(self, status: int, headers: Headers) -> None:
        self._status, self._headers = status, headers

    def on_body(self, data: bytes) -> None:
        self._body += data
        if len(self._body) > self._limit:
            self.on_failed(Outcome.GARBLED, "the answer is too long")

    def on_end(self) -> None:
        if not self.future.done():
            self.future.set_result(Fetched(self._status, self._headers, bytes(self._body)))

    def on_failed(self, outcome: Outcome, detail: str) -> None:
        if not self.future.done():
            self.future.set_exception(FetchError(outcome, detail))
