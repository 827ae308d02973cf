"""A replica that answers when the test says so, and a client of the service before it, both over sockets."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from secondsource.gateway.service import Service

MESSAGE = b'{"role":"assistant","content":"%b"}' % (b"word " * 40)
USAGE = b'{"prompt_tokens":60,"completion_tokens":40}'
ANSWER = b'{"choices":[{"index":0,"message":%b,"finish_reason":"stop"}],"usage":%b}' % (MESSAGE, USAGE)


@dataclass
class HeldReplica:
    """Holds each request until it is let go; `arrived` are the bodies in the order in which they came."""

    arrived: list[dict[str, Any]] = field(default_factory=list)
    held: list[asyncio.Event] = field(default_factory=list)
    url: str = ""
    holds: bool = True
    load: bytes = b""  # what it says of its load in ORCA's header, to those who ask
    _server: asyncio.Server | None = None

    async def start(self) -> "HeldReplica":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def stop(self) -> None:
        for event in self.held:
            event.set()
        assert self._server
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next((int(line[16:]) for line in head.split(b"\r\n") if line.startswith(b"content-length: ")), 0)
            body = await reader.readexactly(length)
            if head.startswith(b"POST"):
                self.arrived.append(json.loads(body))
                event = asyncio.Event()
                self.held.append(event)
                if self.holds:
                    await event.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/json\r\n")
            if self.load and b"\r\nendpoint-load-metrics-format: TEXT\r\n" in head:
                writer.write(b"endpoint-load-metrics: %b\r\n" % self.load)
            writer.write(b"content-length: %d\r\n\r\n" % len(ANSWER) + ANSWER)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    async def has(self, count: int) -> None:
        """Wait until so many requests have come."""
        async with asyncio.timeout(20):
            while len(self.arrived) < count:  # noqa: ASYNC110 -- counted in many tasks
                await asyncio.sleep(0.005)

    def let_go(self, which: int = -1) -> None:
        """Answer one request, by the order in which they came."""
        self.held[which].set()


@dataclass
class Answered:
    """What a client got."""

    status: int
    headers: dict[str, str]
    body: Any


class Client:
    """One request over a connection of its own."""

    def __init__(self, service: Service, body: dict[str, Any], token: str | None = None) -> None:
        self._port = int(service.gateway_url.rpartition(":")[2])
        self._raw = json.dumps(body).encode()
        self._token = token
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self) -> Answered:
        """Send it and read the answer."""
        reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        lines = ["POST /v1/chat/completions HTTP/1.1", "host: x", "connection: close"]
        lines += [f"content-length: {len(self._raw)}"]
        lines += [f"authorization: Bearer {self._token}"] if self._token else []
        self._writer.write("\r\n".join([*lines, "", ""]).encode() + self._raw)
        async with asyncio.timeout(20):
            whole = await reader.read()
        self._writer.close()
        head, _, rest = whole.partition(b"\r\n\r\n")
        status, *headers = head.decode().split("\r\n")
        return Answered(int(status.split()[1]), dict(line.split(": ", 1) for line in headers), json.loads(rest))

    def hang_up(self) -> None:
        """Leave without the answer."""
        assert self._writer
        self._writer.transport.abort()
