"""A client that records exactly what came over the wire, and how the connection ended."""

import asyncio
import json
import time
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit


class End(StrEnum):
    """How a response ended."""

    WHOLE = "whole"  # the closing chunk, or every byte of Content-Length
    FIN = "fin"  # closed before that
    RESET = "reset"
    TIMEOUT = "timeout"  # this client gave up waiting
    LEFT = "left"  # this client left on purpose


@dataclass(frozen=True)
class Event:
    """One server-sent event: when it came, in seconds after the request, and its data as it stood."""

    at: float
    data: str

    @property
    def json(self) -> dict[str, Any]:
        """The event's data, parsed."""
        parsed = json.loads(self.data)
        assert isinstance(parsed, dict), self.data
        return parsed


@dataclass
class Received:
    """Everything that came in answer to one request."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    events: list[Event] = field(default_factory=list)
    end: End = End.TIMEOUT
    seconds: float = 0.0

    @property
    def json(self) -> dict[str, Any]:
        """The body of an answer that is not streamed, parsed."""
        parsed = json.loads(self.body)
        assert isinstance(parsed, dict)
        return parsed

    @property
    def done(self) -> bool:
        """Whether `[DONE]` was the last event."""
        return bool(self.events) and self.events[-1].data == "[DONE]"

    @cached_property
    def chunks(self) -> list[dict[str, Any]]:
        """The events that are parts of an answer."""
        return [event.json for event in self.events if event.data != "[DONE]" and "error" not in event.json]

    @property
    def error(self) -> dict[str, Any] | None:
        """OpenAI's error object, from an error answer or from an error event."""
        if self.status >= 400:
            error: dict[str, Any] = self.json["error"]
            return error
        errors = [event.json["error"] for event in self.events if event.data != "[DONE]" and "error" in event.json]
        return errors[0] if errors else None

    def choices(self, index: int = 0) -> list[dict[str, Any]]:
        """Every streamed choice number `index`."""
        return [choice for chunk in self.chunks for choice in chunk["choices"] if choice["index"] == index]

    def text(self, index: int = 0) -> str:
        """The text that came for a choice, tool call arguments included, streamed or not."""
        if not self.events:
            choice = next(choice for choice in self.json["choices"] if choice["index"] == index)
            return _message_text(choice)
        return "".join(_message_text(choice) for choice in self.choices(index))

    def finish_reasons(self, index: int = 0) -> list[str]:
        """Every finish_reason that came for a choice: a whole answer has one."""
        choices = self.choices(index) if self.events else self.json["choices"]
        mine = [choice for choice in choices if choice["index"] == index]
        return [choice["finish_reason"] for choice in mine if choice.get("finish_reason")]

    @property
    def usage(self) -> dict[str, Any] | None:
        """The last usage that came."""
        found = [chunk["usage"] for chunk in self.chunks if chunk.get("usage")] if self.events else [self.json["usage"]]
        return found[-1] if found else None

    @property
    def looks_whole(self) -> bool:
        """Whether a client would take this for a complete answer."""
        if self.status != 200 or self.end is not End.WHOLE or self.error is not None:
            return False
        return self.done or not self.events


def _message_text(choice: dict[str, Any]) -> str:
    part = choice.get("delta") or choice.get("message") or {}
    calls = part.get("tool_calls") or []
    arguments = "".join(call.get("function", {}).get("arguments") or "" for call in calls)
    return (part.get("content") or "") + arguments + (choice.get("text") or "")


class _Reading:
    """Reads one response, whatever becomes of it, into a `Received`."""

    def __init__(self, reader: asyncio.StreamReader, begun: float, leave_after: int | None) -> None:
        self.received = Received()
        self._reader = reader
        self._begun = begun
        self._leave_after = leave_after
        self._pending = b""

    async def run(self) -> None:
        """Read until the response ends in one way or another."""
        try:
            await self._read()
        except asyncio.IncompleteReadError as error:
            self._add(error.partial if self.received.headers else b"")
            self.received.end = End.FIN
        except ConnectionError:
            self.received.end = End.RESET

    async def _read(self) -> None:
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        self.received.status = int(lines[0].split(" ")[1])
        pairs = (line.partition(":") for line in lines[1:] if line)
        self.received.headers = {name.lower(): value.strip() for name, _, value in pairs}
        if self.received.headers.get("transfer-encoding") == "chunked":
            while size := int((await self._reader.readuntil(b"\r\n")).strip(), 16):
                self._add(await self._reader.readexactly(size))
                await self._reader.readexactly(2)
                if self._leave_after is not None and len(self.received.events) >= self._leave_after:
                    self.received.end = End.LEFT
                    return
            await self._reader.readexactly(2)
        elif "content-length" in self.received.headers:
            self._add(await self._reader.readexactly(int(self.received.headers["content-length"])))
        else:
            self._add(await self._reader.read())
        self.received.end = End.WHOLE

    def _add(self, data: bytes) -> None:
        self.received.body += data
        if not self.received.headers.get("content-type", "").startswith("text/event-stream"):
            return
        self._pending += data
        while (at := self._pending.find(b"\n\n")) >= 0:
            event, self._pending = self._pending[:at], self._pending[at + 2 :]
            lines = [line for line in event.decode(errors="replace").split("\n") if line.startswith("data:")]
            if lines:
                data_text = "\n".join(line[5:].removeprefix(" ") for line in lines)
                self.received.events.append(Event(time.monotonic() - self._begun, data_text))


async def post(
    url: str,
    body: dict[str, Any] | bytes,
    *,
    path: str | None = None,
    headers: dict[str, str] | None = None,
    patience: float = 30.0,
    leave_after: int | None = None,
) -> Received:
    """Send one request on a connection of its own; `leave_after` events, close the connection and leave."""
    if path is None:
        path = "/v1/completions" if isinstance(body, dict) and "prompt" in body else "/v1/chat/completions"
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await send(url, "POST", path, data, headers or {}, patience=patience, leave_after=leave_after)


async def get(url: str, path: str, headers: dict[str, str] | None = None) -> Received:
    """Send one GET on a connection of its own."""
    return await send(url, "GET", path, b"", headers or {})


async def send(
    url: str,
    method: str,
    path: str,
    data: bytes,
    headers: dict[str, str],
    *,
    patience: float = 30.0,
    leave_after: int | None = None,
) -> Received:
    """Send one request and return all that came; never raises for what the server does after connecting."""
    address = urlsplit(url)
    begun = time.monotonic()
    reader, writer = await asyncio.open_connection(address.hostname, address.port, limit=256 * 1024 * 1024)
    fields = {"host": address.netloc, "content-type": "application/json", "content-length": str(len(data)), **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    reading = _Reading(reader, begun, leave_after)
    try:
        writer.write(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + data)
        async with asyncio.timeout(patience):
            await reading.run()
    except TimeoutError:
        pass
    finally:
        reading.received.seconds = time.monotonic() - begun
        writer.transport.abort() if reading.received.end is End.LEFT else writer.close()
    return reading.received
