"""The short way of the commonplace event: from the replica's socket to the client's as it came, chunk framing and all.

It takes a read that is exactly one chunk with exactly one event of a known shape, notes of it what the long way would
note, and leaves everything else to the long way. Most events of most answers are such, and what an event costs is
mostly how much code and how many objects it touches.
"""

import time
from typing import Protocol

from secondsource.gateway.wire.delivered import Delivered
from secondsource.gateway.wire.event_shape import EventShape, plain_text
from secondsource.gateway.wire.relay import Relay

_LINE_END = b"\r\n"
_LONGEST_SIZE = 10  # hexadecimal digits of a chunk's size, and their line's end


class ChunkWriter(Protocol):
    """A client's transport."""

    def is_closing(self) -> bool:
        """Return whether nothing is written any more."""

    def write(self, data: bytes) -> None:
        """Write a chunk."""


class Clock(Protocol):
    """Who watches over the replica's time."""

    def wait_for_more(self, seconds: float) -> float:
        """Set the deadline for the replica's next sign, and return what time it is."""


class Notes(Protocol):
    """Who tells the books of the answer's progress."""

    note_at: float  # when they are told next

    def note(self, relay: Relay, now: float) -> None:
        """Tell them."""


class FastPath:
    """The short way for one shape of event of one attempt."""

    __slots__ = (
        "_after",
        "_before",
        "_between_tokens_s",
        "_clock",
        "_delivered",
        "_longest",
        "_notes",
        "_relay",
        "_writer",
        "shape",
    )

    def __init__(
        self,
        shape: EventShape,
        relay: Relay,
        delivered: Delivered,
        writer: ChunkWriter,
        clock: Clock,
        notes: Notes,
        *,
        between_tokens_s: float,
        event_limit: int,
    ) -> None:
        self.shape = shape
        self._before = shape.before
        self._after = shape.after + _LINE_END
        self._relay = relay
        self._delivered = delivered
        self._writer = writer
        self._clock = clock
        self._notes = notes
        self._between_tokens_s = between_tokens_s
        self._longest = event_limit

    def take(self, data: bytes) -> bool:
        """Pass a read on if it is one chunk with one event of the shape; false, and nothing is done, if it is not.

        It must begin where a chunk begins, and no part of an event may be held.
        """
        start = data.find(_LINE_END, 0, _LONGEST_SIZE) + 2
        before, after = self._before, self._after
        if not data.startswith(before, start) or not data.endswith(after) or len(data) > self._longest:
            return False
        text = plain_text(data[start + len(before) : -len(after)])
        if text is None or not is_size(data[: start - 2], len(data) - start - 2) or self._writer.is_closing():
            return False
        if not self._delivered.add_text(self.shape.index, text):
            return False
        self._relay.tokens_out += 1
        self._writer.write(data)
        if self._clock.wait_for_more(self._between_tokens_s) >= self._notes.note_at:
            self._notes.note(self._relay, time.monotonic())
        return True


def is_size(digits: bytes, size: int) -> bool:
    """Return whether these are a chunk's size as every reader reads it: no sign, no zeros before it, no extension."""
    return digits == b"%x" % size or digits == b"%X" % size


def is_one_chunk(data: bytes, body: bytes) -> bool:
    """Return whether bytes of which llhttp handed on this body were one whole chunk."""
    start = len(data) - len(body) - 2
    framed = data.endswith(_LINE_END) and data.startswith(body, start) and data.startswith(_LINE_END, start - 2)
    return framed and start > 2 and is_size(data[: start - 2], len(body))
