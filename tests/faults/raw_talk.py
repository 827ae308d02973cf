"""Talks to a listener in raw bytes, as nobody who means well would."""

import asyncio
import json
import re
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from tests.faults.harness import Gateway

STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def connect(gateway: Gateway) -> Streams:
    """Return a connection to the public listener."""
    address = urlsplit(gateway.url)
    return await asyncio.open_connection(address.hostname, address.port)


async def talk(gateway: Gateway, *parts: bytes, half_close: bool = False, patience: float = 10.0) -> bytes:
    """Send parts, one write each, and return all that comes until the gateway closes (or patience ends)."""
    reader, writer = await connect(gateway)
    answer = bytearray()

    async def listen() -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                answer.extend(data)

    async def say() -> None:
        with suppress(ConnectionError):
            for part in parts:
                writer.write(part)
                await writer.drain()
            if half_close:
                writer.write_eof()

    listening, saying = asyncio.create_task(listen()), asyncio.create_task(say())
    with suppress(TimeoutError):
        async with asyncio.timeout(patience):
            await listening
    for task in (listening, saying):
        task.cancel()
    await asyncio.gather(listening, saying, return_exceptions=True)
    writer.transport.abort()
    return bytes(answer)


def statuses(answer: bytes) -> list[int]:
    """Return the status of every response in what came, interim ones left out."""
    return [int(status) for status in STATUS.findall(answer) if status != b"100"]


def assert_refused(answer: bytes, status: int) -> None:
    """What came is one error answer of this status, in OpenAI's shape, with an id, and the connection ends."""
    assert statuses(answer) == [status], answer[:300]
    head, _, body = answer.partition(b"\r\n\r\n")
    error: dict[str, Any] = json.loads(body)["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["message"]
    assert b"\r\nx-request-id: req_" in head
    assert b"\r\nconnection: close" in head


def post(body: bytes, *headers: bytes, path: bytes = b"/v1/chat/completions", version: bytes = b"1.1") -> bytes:
    """Return a well-formed request."""
    lines = [b"POST %b HTTP/%b" % (path, version), b"host: gateway", b"content-length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body
