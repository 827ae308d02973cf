"""The page Chat asks the gateway's public listener, as every client does, and passes the stream on with its comments.

The page cannot ask the public listener itself: that is another origin, and it gives no leave to pages of others.
"""

import asyncio
import re
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from secondsource.core.records import Outcome
from secondsource.gateway.admin.guard import refusal
from secondsource.gateway.upstream import Call, Headers, ReplicaClient, Target

PATH = b"/v1/chat/completions"
CONNECT_WITHIN_S = 2.0
MOST_HELD = 32  # pieces of an answer that the page has not taken yet
MOST_ASKED = 4 * 1024 * 1024
GATEWAY_KEY = re.compile(r"[\x21-\x7e]{1,512}")
PASSED_ON = ("retry-after", "x-secondsource-pool", "x-secondsource-supplier", "x-secondsource-chip")


class Chat:
    """Asks one gateway; owns the connections to it."""

    def __init__(self, gateway_url: str) -> None:
        self._client = ReplicaClient(Target(gateway_url, None, None), CONNECT_WITHIN_S)

    async def answer(self, request: Request) -> Response:
        """Return the gateway's answer to the page's request; `x-gateway-key` is the key to ask with, if any."""
        body = await _whole(request)
        if body is None:
            return refusal(413, f"a chat of more than {MOST_ASKED} bytes", code="request_too_large")
        extra = b"x-secondsource-tell: attempts\r\naccept: text/event-stream\r\n"
        key = request.headers.get("x-gateway-key", "")
        if GATEWAY_KEY.fullmatch(key):
            extra += b"authorization: Bearer " + key.encode("ascii") + b"\r\n"
        taken = _Taken()
        taken.call = call = self._client.call(self._client.target.request(b"POST", PATH, body, extra), taken)
        try:
            status, headers = await taken.head
        except _NoAnswerError as error:
            return refusal(502, f"the gateway's public listener did not answer: {error}", code="gateway_unreachable")
        except asyncio.CancelledError:
            call.abort()
            raise
        passed = {name: headers[name.encode()].decode("latin-1") for name in PASSED_ON if name.encode() in headers}
        passed["x-gateway-request-id"] = headers.get(b"x-request-id", b"").decode("latin-1")
        passed["content-type"] = headers.get(b"content-type", b"application/json").decode("latin-1")
        return StreamingResponse(taken.pieces(), status, passed)


async def _whole(request: Request) -> bytes | None:
    """Return the request's body, or None as soon as it is too long."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MOST_ASKED:
            return None
    return bytes(body)


class _NoAnswerError(Exception):
    pass


class _Taken:
    """One answer on its way to the page; holds the gateway back while the page does not take it."""

    def __init__(self) -> None:
        self.head: asyncio.Future[tuple[int, Headers]] = asyncio.get_running_loop().create_future()
        self.call: Call | None = None
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def pieces(self) -> AsyncIterator[bytes]:
        try:
            while (piece := await self._pieces.get()) is not None:
                if self.call is not None and self._pieces.qsize() < MOST_HELD:
                    self.call.pause(paused=False)
                yield piece
        finally:
            if self.call is not None:
                self.call.abort()

    def on_head(self, status: int, headers: Headers) -> None:
        if not self.head.done():
            self.head.set_result((status, headers))

    def on_body(self, data: bytes) -> None:
        self._pieces.put_nowait(data)
        if self.call is not None and self._pieces.qsize() >= MOST_HELD:
            self.call.pause(paused=True)

    def on_end(self) -> None:
        self.call = None
        self._pieces.put_nowait(None)

    def on_failed(self, outcome: Outcome, detail: str) -> None:
        self.call = None
        if not self.head.done():
            self.head.set_exception(_NoAnswerError(f"{outcome.value}: {detail}"))
        self._pieces.put_nowait(None)
