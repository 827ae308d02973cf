"""Client connections: HTTP/1.1 in, parsed by llhttp, one request at a time; answers out as they come.

A connection owns what it has read and not yet handed on (bounded), and whether its client keeps up. What a request
means is the service's business: it gets a whole `Request` and answers through `Responder`'s methods.
"""

import asyncio
import logging
from collections import deque
from typing import Protocol

import httptools
import msgspec

from secondsource.gateway.wire.errors import error_body

LINGER_S = 2.0
LONG_READ = 128 * 1024  # bytes at once: there is more, and others come first
MOST_WAITING = 16  # pipelined requests read ahead of their turn, about
PARSED_AT_ONCE = 16 * 1024  # bytes: small requests may be hundreds in one read
ONCE = frozenset({b"host", b"authorization"})  # twice, and two servers may each believe another one
REASONS = {
    200: b"OK",
    400: b"Bad Request",
    401: b"Unauthorized",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    413: b"Content Too Large",
    415: b"Unsupported Media Type",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
}
Lines = list[tuple[bytes, bytes]]


class Request(msgspec.Struct):
    """A whole request."""

    method: bytes
    path: str
    headers: dict[bytes, bytes]  # names in lower case
    body: bytes
    keep_alive: bool
    chunked: bool  # whether the client understands chunked answers (HTTP/1.1)


class Exchange(Protocol):
    """What a connection tells the request it is serving."""

    def client_gone(self) -> None:
        """Note that the client has left."""

    def client_reads(self, *, ready: bool) -> None:
        """Note that the client's buffer has filled up, or has room again."""


class Application(Protocol):
    """Who answers requests."""

    body_limit: int
    header_limit: int

    def opened(self, connection: "ClientConnection") -> None:
        """Note a new connection."""

    def closed(self, connection: "ClientConnection") -> None:
        """Note that a connection is gone."""

    def refused(self, status: int, message: str) -> bytes:
        """Note a request that never was whole, and return an id for it."""

    def handle(self, request: Request, connection: "ClientConnection") -> Exchange | None:
        """Answer a request, at once (None) or through an exchange that is told of the client from then on."""

    def hold(self, size: int) -> bool:
        """Count bytes of request bodies that are held in memory (negative: let go); False when that is too much."""

    def now(self) -> float:
        """Return monotonic seconds."""


class ClientConnection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[Request] = deque()
        self._unparsed = b""  # read, and not looked at before some of those that wait have had their turn
        self._request: Request | None = None  # the one being answered
        self._exchange: Exchange | None = None
        self._streaming = False
        self._keeps_up = True  # what was written leaves
        self._unsent = 0  # bytes, when last looked at
        self._held = 0  # bytes of bodies that are counted by the application
        self._refused = False  # no more is read: an error was answered
        self._reset_message()
        self.idle_since = application.now()  # since when nothing is being answered

    def _reset_message(self) -> None:
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._header_bytes = 0
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._in_head = True
        self._unheard = 0  # bytes that llhttp has taken since it last said anything
        self._upgrade = False
        self.partial = False  # part of a request has come

    # -- what asyncio says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: a client has connected."""
        self._transport = transport  # type: ignore[assignment]  # a stream transport, by create_server
        self._application.opened(self)

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes from the client."""
        if self._unparsed or len(data) > PARSED_AT_ONCE:
            self._parse_in_turn(self._unparsed + data)
        else:
            self._parse(data)
        if len(data) >= LONG_READ:
            self._read(paused=True)
            asyncio.get_running_loop().call_soon(self._take_turn)

    def _parse_in_turn(self, data: bytes) -> None:
        """Parse until enough requests wait, and leave the rest for later; nothing more is read meanwhile."""
        at = 0
        while at < len(data) and len(self._waiting) < MOST_WAITING and not self._refused:
            self._parse(data[at : at + PARSED_AT_ONCE])
            at += PARSED_AT_ONCE
        self._unparsed = b"" if self._refused else data[at:]

    def _parse(self, data: bytes) -> None:
        if self._refused:
            return
        self._unheard += len(data)
        heard = self._unheard
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._stay(data[upgrade.args[0] :])
        except httptools.HttpParserCallbackError as error:
            logging.getLogger("secondsource").error("a request failed", exc_info=error.__context__ or error)
            self._refuse(500, "the gateway failed")
        except httptools.HttpParserError:
            self._refuse(400, "the request is not valid HTTP/1.1")
        if self._unheard == heard and heard > self._application.header_limit:
            # One header (or trailer, or chunk extension) without end: llhttp would gather it for ever.
            self._head_too_large()

    def _take_turn(self) -> None:
        # Refused, what still comes is read to be thrown away.
        self._read(
            paused=bool(self._waiting or self._unparsed)
            or not (self._keeps_up or self._exchange is not None or self._refused)
        )

    def _stay(self, rest: bytes) -> None:
        """Go on in HTTP/1.1 where the client offers another protocol: it is free to be ignored, and llhttp stops there.

        Java's HttpClient offers h2c with every request, and sends the body in HTTP/1.1 all the same.
        """
        if self._refused:
            return
        if self._parser.get_method() == b"CONNECT":
            self._refuse(405, "this server is no proxy")
            return
        lines = [b"%b: %b\r\n" % header for header in self._headers.items() if header[0] != b"upgrade"]
        head = b"%b %b HTTP/1.1\r\n%b\r\n" % (self._parser.get_method(), self._url, b"".join(lines))
        self._parser = httptools.HttpRequestParser(self)
        self._parse(head + rest)

    def eof_received(self) -> bool:
        """asyncio: the client has closed its side; it is taken to have left."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the connection is gone."""
        self._waiting.clear()
        self._unparsed = b""
        self._refused = True
        self._hold(-self._held)
        exchange, self._exchange = self._exchange, None
        self._application.closed(self)
        del self._parser  # which knows us: both are freed at once, and not by a collection later
        if exchange is not None:
            exchange.client_gone()

    def pause_writing(self) -> None:
        """asyncio: the client does not keep up."""
        self._keeps_up = False
        if self._exchange is not None:
            self._exchange.client_reads(ready=False)
        else:
            self._read(paused=True)  # who does not read answers asks nothing more

    def resume_writing(self) -> None:
        """asyncio: the client keeps up again."""
        self._keeps_up = True
        self.idle_since = self._application.now()
        if self._exchange is not None:
            self._exchange.client_reads(ready=True)
        elif self._request is None and not self._refused:
            self._go_on()

    # -- what llhttp says

    def on_message_begin(self) -> None:
        """llhttp: a request begins."""
        self._reset_message()
        self.partial = True
        self.idle_since = self._application.now()

    def on_url(self, url: bytes) -> None:
        """llhttp: part of the request's target."""
        self._unheard = 0
        self._url += url
        self._count_header(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """llhttp: one header, or a trailer, which is counted and forgotten: it came too late to say who asks."""
        self._unheard = 0
        self._count_header(len(name) + len(value) + 4)
        if self._in_head:
            name = name.lower()
            if name in ONCE and name in self._headers:
                self._refuse(400, f"the request has two {name.decode()} headers")
            self._headers[name] = value

    def _count_header(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > self._application.header_limit:
            self._head_too_large()

    def on_headers_complete(self) -> None:
        """llhttp: the head is whole."""
        self._in_head = False
        headers, version = self._headers, self._parser.get_http_version()
        self._upgrade = self._parser.should_upgrade()
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > self._application.body_limit:
            self._body_too_large()
        elif b"transfer-encoding" in headers and version != "1.1":
            self._refuse(400, "a body in chunks needs HTTP/1.1")
        elif headers.get(b"transfer-encoding", b"chunked").lower() != b"chunked":
            self._refuse(501, "the only transfer encoding is chunked")
        elif version == "1.1" and b"host" not in headers:
            self._refuse(400, "the request has no host header")
        elif headers.get(b"expect", b"").lower() == b"100-continue" and version == "1.1" and self._may_go_on():
            self._write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _may_go_on(self) -> bool:
        # In the middle of the answer before, an interim one would be read as part of it.
        return self._request is None and not self._refused and not self._upgrade

    def on_chunk_header(self) -> None:
        """llhttp: a chunk's length, extensions included."""
        self._unheard = 0

    def on_body(self, body: bytes) -> None:
        """llhttp: bytes of the body, without chunk framing."""
        self._unheard = 0
        if self._refused:
            return
        self._body_bytes += len(body)
        if self._body_bytes > self._application.body_limit:
            self._body_too_large()
        elif not self._hold(len(body)):
            self._refuse(503, "the gateway holds as much of requests as it may; try again")
        else:
            self._body.append(body)

    def _hold(self, size: int) -> bool:
        self._held += size
        return self._application.hold(size)

    def on_message_complete(self) -> None:
        """llhttp: the request is whole."""
        self._unheard = 0
        if self._refused or self._upgrade:
            return
        path = _path(self._url)
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        parser = self._parser
        request = Request(
            parser.get_method(),
            path,
            self._headers,
            body,
            parser.should_keep_alive(),
            parser.get_http_version() == "1.1",
        )
        self.partial = False
        self._body = []
        if self._request is None:
            self._begin(request)
        else:
            self._waiting.append(request)
            self._read(paused=True)

    def _body_too_large(self) -> None:
        self._refuse(413, f"the request's body is larger than {self._application.body_limit} bytes")

    def _head_too_large(self) -> None:
        self._refuse(431, f"the request's headers are larger than {self._application.header_limit} bytes")

    def _refuse(self, status: int, message: str) -> None:
        """Answer an error to a request that never was whole, and close; a running answer is left to end first."""
        if self._refused:
            return
        self._refused = True
        self._body = []
        self._hold(-self._held + sum(len(one.body) for one in (self._request, *self._waiting) if one is not None))
        if self._request is not None or self._transport is None:
            if self._transport is not None:
                self._transport.pause_reading()
            return
        self._request = Request(b"", "", {}, b"", keep_alive=False, chunked=True)
        lines = [(b"x-request-id", self._application.refused(status, message))]
        if status == 503:
            lines.append((b"retry-after", b"1"))
        self.respond(status, error_body(status, message), lines)

    def _read(self, *, paused: bool) -> None:
        if self._transport is not None and not self._transport.is_closing():
            if paused:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def _begin(self, request: Request) -> None:
        self._request = request
        exchange = self._application.handle(request, self)
        if exchange is not None and self._request is request:
            self._exchange = exchange

    # -- what the service answers

    def respond(self, status: int, body: bytes, headers: Lines, content_type: bytes = b"application/json") -> None:
        """Answer the current request whole."""
        assert self._request is not None
        head = self._head(status, headers, content_type, b"content-length: %d\r\n" % len(body))
        self._write(head if self._request.method == b"HEAD" else head + body)
        self._end()

    def start_stream(self, headers: Lines, content_type: bytes, data: bytes) -> None:
        """Begin a streamed answer with its first bytes."""
        assert self._request is not None
        self._streaming = True
        framing = b"transfer-encoding: chunked\r\n" if self._request.chunked else b""
        if not self._request.chunked:
            self._request.keep_alive = False
        self._write(
            self._head(200, headers, content_type, b"cache-control: no-cache\r\n" + framing) + self._frame(data)
        )

    def send(self, data: bytes) -> None:
        """Send the next bytes of a streamed answer; there are some."""
        transport = self._transport
        assert self._request is not None
        assert transport is not None
        if not transport.is_closing():  # `_write` and `_frame` in one: this is called for every event
            transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._request.chunked else data)

    def chunk_writer(self) -> asyncio.Transport | None:
        """Return where chunks of the streamed answer may be written as they are; None for a client of HTTP/1.0."""
        return self._transport if self._request is not None and self._request.chunked else None

    def end_stream(self, data: bytes, *, keep: bool = True) -> None:
        """Send the last bytes of a streamed answer and end it, and, unless it is kept, the connection, soon."""
        assert self._request is not None
        self._request.keep_alive = self._request.keep_alive and keep
        self._write(self._frame(data) + (b"0\r\n\r\n" if self._request.chunked else b""))
        self._end()
        if not keep:
            asyncio.get_running_loop().call_later(LINGER_S, self.abort)  # a client that reads has it by then

    def _frame(self, data: bytes) -> bytes:
        assert self._request is not None
        return b"%x\r\n%b\r\n" % (len(data), data) if data and self._request.chunked else data

    def _head(self, status: int, headers: Lines, content_type: bytes, framing: bytes) -> bytes:
        assert self._request is not None
        lines = [
            b"HTTP/1.1 %d %b\r\ncontent-type: %b\r\n" % (status, REASONS.get(status, b"Error"), content_type),
            framing,
        ]
        lines += [b"%b: %b\r\n" % header for header in headers]
        if not self._request.keep_alive:
            lines.append(b"connection: close\r\n")
        lines.append(b"\r\n")
        return b"".join(lines)

    def _write(self, data: bytes) -> None:
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _end(self) -> None:
        assert self._request is not None
        keep = self._request.keep_alive
        if self._request.body:
            self._hold(-len(self._request.body))
        self._request = None
        self._exchange = None
        self._streaming = False
        self.idle_since = self._application.now()
        if self._refused:
            self._linger()
        elif not keep:
            self.close()
        elif not self._keeps_up:
            self._read(paused=True)
        elif self._waiting or self._unparsed:
            self._go_on()

    def _go_on(self) -> None:
        if self._waiting or self._unparsed:
            # The next turn comes from the loop, so that a long pipeline neither recurses nor starves others.
            asyncio.get_running_loop().call_soon(self._next)
        else:
            self._read(paused=False)

    def _linger(self) -> None:
        """Close gently after an error: what the client still sends is thrown away, lest a reset overtake the answer."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()
            asyncio.get_running_loop().call_later(LINGER_S, self.abort)

    def _next(self) -> None:
        if self._request is not None or not self._keeps_up or self._refused:
            return
        if not self._waiting:
            data, self._unparsed = self._unparsed, b""
            self._parse_in_turn(data)
        else:
            self._begin(self._waiting.popleft())
        if not self._waiting and not self._unparsed and self._keeps_up and not self._refused:
            self._read(paused=False)

    @property
    def arriving(self) -> bool:
        """Return whether part of a request has come, and the rest is waited for."""
        return self.partial and self._keeps_up

    @property
    def busy(self) -> bool:
        """Return whether a request is being answered."""
        return self._request is not None

    def close(self) -> None:
        """Close once what was written has left."""
        if self._transport is not None:
            self._transport.close()

    def time_out(self) -> None:
        """Close an idle connection; a request that never became whole is answered 408."""
        if self._transport is None:
            return
        unsent, self._unsent = self._unsent, self._transport.get_write_buffer_size()
        if self._unsent and self._unsent != unsent:
            self.idle_since = self._application.now()  # slow, and yet it reads
        elif self._transport.is_closing():
            self.abort()  # what is unsent nobody takes
        elif self.arriving and self._request is None:
            self._refuse(408, "the request did not arrive in time")
        else:
            self.close()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()


def _path(target: bytes) -> str:
    """Return a request target's path; one that names this server (`http://host/path`) means the same."""
    if target[:1] != b"/" and b"://" in target:
        target = b"/" + target.partition(b"://")[2].partition(b"/")[2]
    return target.partition(b"?")[0].decode("latin-1")
