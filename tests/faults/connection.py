"""One connection to a misbehaving replica: requests read whole, answers written byte by byte as told."""

import asyncio
import contextlib
import json
import socket
import struct
from typing import Any

HOLD_S = 30.0  # the longest that a silent replica keeps a connection open for a peer that stays


class PeerGoneError(Exception):
    """The peer closed or reset the connection while an answer was still being written."""


class Connection:
    """Reads HTTP/1.1 requests and writes raw bytes, and knows how to end badly."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.closed = False

    async def read_request(self) -> tuple[str, str, dict[str, str], bytes] | None:
        """Return method, path, headers (lower case) and body, or None at the end of the connection."""
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            method, path, _ = lines[0].split(" ", 2)
            headers = {
                name.strip().lower(): value.strip()
                for name, _, value in (line.partition(":") for line in lines[1:] if line)
            }
            return method, path, headers, await self._read_body(headers)
        except (asyncio.IncompleteReadError, OSError):
            return None

    async def _read_body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            body = b""
            while size := int((await self._reader.readuntil(b"\r\n")).strip(), 16):
                body += (await self._reader.readexactly(size + 2))[:-2]
            await self._reader.readuntil(b"\r\n")
            return body
        return await self._reader.readexactly(int(headers.get("content-length", "0")))

    @property
    def peer_gone(self) -> bool:
        """Whether the peer has closed or reset the connection."""
        return self._reader.at_eof() or self._reader.exception() is not None or self._writer.is_closing()

    async def write(self, data: bytes) -> None:
        """Write bytes as one segment, as far as the kernel lets us; raises PeerGoneError."""
        if self.peer_gone:
            raise PeerGoneError
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError as error:
            raise PeerGoneError from error
        await asyncio.sleep(0)

    async def write_drip(self, data: bytes, seconds: float) -> None:
        """Write bytes one at a time, `seconds` apart."""
        for value in data:
            await self.write(bytes([value]))
            await asyncio.sleep(seconds)

    async def hold(self, seconds: float = HOLD_S) -> None:
        """Say nothing until the peer leaves (raises PeerGoneError) or `seconds` have passed."""
        for _ in range(int(seconds / 0.01)):
            if self.peer_gone:
                raise PeerGoneError
            await asyncio.sleep(0.01)

    async def settle(self) -> None:
        """Let what was written arrive, so that a reset after it does not overtake it."""
        await asyncio.sleep(0.02)

    def finish(self) -> None:
        """End the connection with FIN."""
        self.closed = True
        with contextlib.suppress(OSError):
            self._writer.close()

    def reset(self) -> None:
        """End the connection with RST."""
        self.closed = True
        sock: socket.socket | None = self._writer.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 429: "Too Many Requests"}
REASONS |= {500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable"}


def head(status: int, headers: dict[str, str]) -> bytes:
    """Return a response head."""
    lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Unknown')}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def plain(status: int, body: bytes, content_type: str = "application/json", **headers: str) -> bytes:
    """Return a whole response; an underscore in a header's name stands for a dash."""
    extra = {name.replace("_", "-"): value for name, value in headers.items()}
    return head(status, {"content-type": content_type, "content-length": str(len(body)), **extra}) + body


def error_body(message: str, kind: str, code: str | int | None, **extra: Any) -> bytes:
    """Return OpenAI's error body."""
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code, **extra}}).encode()


def chunk(data: bytes) -> bytes:
    """Return bytes as one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"
STREAM_HEAD = head(200, {"content-type": "text/event-stream; charset=utf-8", "transfer-encoding": "chunked"})
