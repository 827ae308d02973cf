"""The pump: passes commonplace events on, on a thread of its own, and is asked now and then what they were.

Given a stream in the middle of its answer, it does with each event what `gateway.fast_path` does, and gives the stream
back at the first byte that is anything else. What it has passed on is told to the stream's owner every few seconds, and
always before anything is decided about the stream; how many events that is, is counted as it goes, in a file
(`books.running_counts`) that outlives the process.
"""

import asyncio
import ctypes
import time
from collections import deque
from collections.abc import Callable
from math import ceil
from typing import NamedTuple

from secondsource.gateway.books.running_counts import RunningCounts
from secondsource.gateway.open_files import most_pumped
from secondsource.gateway.pump.library import Told, load_library
from secondsource.gateway.wire.event_shape import EventShape, RawTexts

TELL_EVERY_S = 5.0
TURNS = 100  # in which all are told of once: not all at the same time, lest a new request wait for it


class Owner(NamedTuple):
    """Whom a stream belongs to."""

    passed_on: Callable[[RawTexts, float], None]  # texts, an event each; how many seconds ago the last one was
    note: Callable[[], None]  # now and then, after that
    write: Callable[[bytes], None]  # to the client: the rest of what was passed on, of which its socket took a part
    given_back: Callable[[], None]  # the pump has stopped there: `Passage.end` is to be called
    attempt_id: str  # under which its events are counted
    tokens_out: int  # until now


class Passage:
    """A stream that the pump has."""

    __slots__ = ("_pump", "count", "ended", "number", "owner")

    def __init__(self, pump: "Pump", number: int, count: int | None, owner: Owner) -> None:
        self._pump = pump
        self.number = number
        self.count = count  # the address of its count
        self.owner = owner
        self.ended = False

    def catch_up(self) -> bool:
        """Tell the owner what has been passed on since the last time; returns whether there was anything."""
        return self._pump.tell(self)

    def end(self) -> bytes:
        """Take the stream back, after telling its owner the rest; returns what was read and not passed on."""
        return self._pump.leave(self)


class Pump:
    """Owns the pump's thread and every passage; used from the event loop's thread alone."""

    def __init__(self, library: ctypes.CDLL, counts: RunningCounts | None = None) -> None:
        """Start the thread; raises OSError where it cannot be."""
        self._library = library
        self._counts = counts
        self._pump = library.pump_start(most_pumped())
        if not self._pump:
            raise OSError("the pump cannot be started: no memory, no descriptors, or no thread")
        self._told = Told()
        self._told_at = ctypes.addressof(self._told)
        self._text = ctypes.create_string_buffer(library.pump_text_bytes())
        self._held = ctypes.create_string_buffer(library.pump_held_bytes())
        self._longest = int(library.pump_longest_event())
        self._passages: dict[int, Passage] = {}
        self._round: deque[Passage] = deque()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(library.pump_notice(self._pump), self._take_back)
        self._turn = self._loop.call_later(TELL_EVERY_S / TURNS, self._tell_some)

    @property
    def streams(self) -> int:
        """How many streams it has."""
        return len(self._passages)

    def take(self, upstream: int, client: int, shape: EventShape, longest: int, owner: Owner) -> Passage | None:
        """Take over a stream between two sockets, given by their descriptors, where a chunk of the answer begins.

        Nobody else may read the one or write to the other until `Passage.end`. None where the pump cannot have it.
        """
        parts = [
            each
            for part in (shape.before, shape.after, shape.sent_before, shape.sent_after)
            for each in (part, len(part))
        ]
        count = None if self._counts is None else self._counts.take(owner.attempt_id, owner.tokens_out)
        number = self._library.pump_take(self._pump, upstream, client, *parts, min(longest, self._longest), count)
        if not number:
            self._uncount(count)
            return None
        self._passages[number] = passage = Passage(self, number, count, owner)
        self._round.append(passage)
        return passage

    def tell(self, passage: Passage) -> bool:
        """See `Passage.catch_up`."""
        if passage.ended:
            return False
        self._library.pump_tell(self._pump, passage.number, self._told_at, ctypes.addressof(self._text))
        return self._pass_on(passage)

    def leave(self, passage: Passage) -> bytes:
        """See `Passage.end`."""
        if passage.ended:
            return b""
        passage.ended = True
        del self._passages[passage.number]
        told, held = self._told, ctypes.addressof(self._held)
        self._library.pump_leave(self._pump, passage.number, self._told_at, ctypes.addressof(self._text), held)
        unsent = ctypes.string_at(held, told.unsent_bytes)
        unread = ctypes.string_at(held + told.unsent_bytes, told.unread_bytes)
        self._pass_on(passage)
        self._uncount(passage.count)
        if unsent:
            passage.owner.write(unsent)
        return unread

    def _uncount(self, count: int | None) -> None:
        if self._counts is not None and count is not None:
            self._counts.free(count)

    def _pass_on(self, passage: Passage) -> bool:
        told = self._told
        if not told.events:
            return False
        texts = RawTexts(ctypes.string_at(self._text, told.text_bytes), told.events)
        passage.owner.passed_on(texts, (time.monotonic_ns() - told.last_event_ns) / 1e9)
        return True

    def _take_back(self) -> None:
        while number := self._library.pump_next(self._pump):
            passage = self._passages.get(number)
            if passage is not None:
                passage.owner.given_back()

    def _tell_some(self) -> None:
        self._turn = self._loop.call_later(TELL_EVERY_S / TURNS, self._tell_some)
        for _ in range(ceil(len(self._round) / TURNS)):
            passage = self._round.popleft()
            if not passage.ended:
                self._round.append(passage)
                if self.tell(passage):
                    passage.owner.note()

    def close(self) -> None:
        """Stop the thread; streams that it still has are let go of."""
        self._turn.cancel()
        self._loop.remove_reader(self._library.pump_notice(self._pump))
        for passage in list(self._passages.values()):
            self.leave(passage)
        self._library.pump_stop(self._pump)


def start_pump(counts: RunningCounts | None = None) -> Pump | None:
    """Return a pump on the running loop, or None where it was not compiled."""
    library = load_library()
    return None if library is None else Pump(library, counts)
