"""Hands the page Now to whoever watches, once a second; with nobody watching nothing runs."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from secondsource.console.log_tail import LogTail
from secondsource.console.now import look
from secondsource.console.window import MOST_LINES, Window
from secondsource.gateway.admin.application import Shown

EVERY_S = 1.0
PATIENCE_S = 15.0
MOST_AT_FIRST = 4000  # lines of the minutes before, one by one: once, and not every second
MOST_WATCHERS = 100


class Watching:
    """One look a second for all watchers together, each as a server-sent event."""

    def __init__(self, shown: Shown) -> None:
        self._shown = shown
        self._watchers = 0
        self._looking: asyncio.Task[None] | None = None
        self._newest = b""  # while somebody watches
        self._changed = asyncio.Condition()

    @property
    def full(self) -> bool:
        """Whether no more may watch."""
        return self._watchers >= MOST_WATCHERS

    async def look_once(self) -> bytes:
        """Return the page now, as JSON."""
        if self._newest:
            return self._newest
        tail, window = self._begin()
        try:
            await asyncio.to_thread(_read, tail, window, MOST_AT_FIRST)
        finally:
            tail.close()
        await self._shown.refresh()
        return msgspec.json.encode(look(self._shown, window))

    async def events(self) -> AsyncIterator[bytes]:
        """Yield an event a second for as long as somebody takes them; whoever is slow misses some."""
        self._watchers += 1
        try:
            yield b"retry: 1000\n\n" + _event(await self.look_once())
            while True:
                if self._looking is None or self._looking.done():
                    self._looking = asyncio.create_task(self._keep_looking(), name="console")
                yield _event(await self._next())
        finally:
            self._watchers -= 1
            if self._watchers == 0:
                self._rest()

    async def _next(self) -> bytes:
        async with self._changed:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await self._changed.wait()
            except TimeoutError:
                self._newest = b""  # the looking has stopped: it is begun anew
                return await self.look_once()
        return self._newest

    async def _keep_looking(self) -> None:
        tail, window = self._begin()
        most = MOST_AT_FIRST
        try:
            while True:
                await asyncio.to_thread(_read, tail, window, most)
                most = MOST_LINES
                await self._shown.refresh()
                self._newest = msgspec.json.encode(look(self._shown, window))
                async with self._changed:
                    self._changed.notify_all()
                await asyncio.sleep(EVERY_S)
        finally:
            tail.close()

    def _begin(self) -> tuple[LogTail, Window]:
        return LogTail(Path(self._shown.fleet.state_dir)), Window(self._shown.fleet.lanes)

    def _rest(self) -> None:
        self._newest = b""
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None


def _read(tail: LogTail, window: Window, most: int) -> None:
    window.take(tail.read(), most)


def _event(data: bytes) -> bytes:
    return b"event: now\ndata: " + data + b"\n\n"
