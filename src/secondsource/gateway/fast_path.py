"""The short way of the commonplace event: from the replica's socket to the client's as it came, chunk framing and all.

It takes chunks that are each exactly one event of a known shape, notes of them what the long way would note, and
leaves everything else to the long way. Most events of most answers are such, and what an event costs is
mostly how much code and how many objects it touches. Where there is a pump, it carries on with them from here.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Protocol

from secondsource.gateway.pump.pump import Owner, Passage, Pump
from secondsource.gateway.wire.delivered import Delivered
from secondsource.gateway.wire.event_shape import EventShape, RawTexts, inner_text
from secondsource.gateway.wire.relay import Relay

_LINE_END = b"\r\n"
_LONGEST_SIZE = 10  # hexadecimal digits of a chunk's size, and their line's end


class ChunkWriter(Protocol):
    """A client's transport."""

    def is_closing(self) -> bool:
        """Return whether nothing is written any more."""

    def write(self, data: bytes) -> None:
        """Write a chunk."""

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait to be sent."""

    def get_extra_info(self, name: str) -> Any:
        """Return what is known of the connection: its socket, and whether it is encrypted."""


class Clock(Protocol):
    """Who watches over the replica's time."""

    def wait_for_more(self, seconds: float) -> float:
        """Set the deadline for the replica's next sign, and return what time it is."""


class Notes(Protocol):
    """Who tells the books of the answer's progress."""

    note_at: float  # when they are told next

    @property
    def attempt_id(self) -> str:
        """The attempt's name there."""

    def note(self, relay: Relay, now: float) -> None:
        """Tell them."""


class BackOff:
    """How many reads must pass whole, one after another, before the pump is asked: more after each time in vain.

    A stream of two kinds of event in turn would go to and fro with every one of them.
    """

    __slots__ = ("_in_vain", "_reads")

    def __init__(self, choices: int) -> None:
        self._reads = 0 if choices == 1 else 2
        self._in_vain = False  # the pump was asked, and has passed nothing on yet

    def lasts(self, passed_whole: int) -> bool:
        """Return whether the pump is not to be asked yet."""
        if self._in_vain:
            self._reads = max(2, 2 * self._reads)
        self._in_vain = False
        return passed_whole < self._reads

    def asked(self) -> None:
        """Note that the pump was asked, and took the stream."""
        self._in_vain = True

    def rewarded(self) -> None:
        """Note that it passed something on."""
        self._in_vain = False


class FastPath:
    """The short way for one shape of event of one attempt."""

    __slots__ = (
        "_after",
        "_back_off",
        "_before",
        "_between_tokens_s",
        "_clock",
        "_delivered",
        "_longest",
        "_notes",
        "_passed_whole",
        "_pump",
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
        back_off: BackOff,
        pump: Pump | None = None,
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
        self._pump = pump
        self._back_off = back_off
        self._passed_whole = 0  # reads, one after another

    def take(self, data: bytes) -> int:
        """Pass on the chunks with which a read begins, as long as each is one event of the shape.

        Returns how many bytes they are: nothing is done with the rest. The read must begin where a chunk begins, and
        no part of an event may be held.
        """
        before, after, add_text, index = self._before, self._after, self._delivered.add_text, self.shape.index
        taken = events = 0
        sent: list[bytes] | None = None if self.shape.as_it_came else []
        if self._writer.is_closing():
            return 0
        while taken < len(data):
            start = data.find(_LINE_END, taken, taken + _LONGEST_SIZE) + 2
            if not data.startswith(before, start):
                break
            text_at = start + len(before)
            end = data.find(after, text_at)
            if end < 0:
                break
            text = inner_text(data[text_at:end])
            end += len(after)
            if text is None or end - start > self._longest or not is_size(data[taken : start - 2], end - start - 2):
                break
            if not add_text(index, text):
                break
            if sent is not None:
                sent.append(self._as_sent(data[text_at : end - len(after)]))
            taken = end
            events += 1
        if events:
            self._relay.tokens_out += events
            self._writer.write((data if taken == len(data) else data[:taken]) if sent is None else b"".join(sent))
            if self._clock.wait_for_more(self._between_tokens_s) >= self._notes.note_at:
                self._notes.note(self._relay, time.monotonic())
        self._passed_whole = self._passed_whole + 1 if taken == len(data) else 0
        return taken

    def _as_sent(self, text: bytes) -> bytes:
        event = self.shape.sent_before + text + self.shape.sent_after
        return b"%x\r\n%b\r\n" % (len(event), event)

    def hand_over(self, upstream: asyncio.Transport, given_back: Callable[[], None]) -> Passage | None:
        """Let the pump carry on where the next chunk begins; None where there is none, or it cannot.

        `given_back` is called once it has stopped. It knows plain sockets only, and a client who keeps up.
        """
        writer = self._writer
        pump = self._pump
        if pump is None or self._back_off.lasts(self._passed_whole) or writer.get_write_buffer_size():
            return None
        if _encrypted(upstream) or _encrypted(writer):
            self._pump = None
            return None
        passage = pump.take(
            upstream.get_extra_info("socket").fileno(),
            writer.get_extra_info("socket").fileno(),
            self.shape,
            self._longest,
            Owner(self.passed_on, self.note, self._write, given_back, self._notes.attempt_id, self._relay.tokens_out),
        )
        if passage is None:
            self._pump = None  # full, or the shape is too long for it: not to be asked again for every event
        else:
            self._back_off.asked()
        return passage

    def passed_on(self, texts: RawTexts, ago_s: float) -> None:
        """Note events that the pump has passed on, the last of them `ago_s` seconds ago."""
        self._back_off.rewarded()
        self._delivered.add_texts(self.shape.index, texts)
        self._relay.tokens_out += texts.events
        self._clock.wait_for_more(self._between_tokens_s - ago_s)

    def note(self) -> None:
        """Have the books told, if it is time."""
        now = time.monotonic()
        if now >= self._notes.note_at:
            self._notes.note(self._relay, now)

    def _write(self, data: bytes) -> None:
        if not self._writer.is_closing():
            self._writer.write(data)


def _encrypted(transport: ChunkWriter | asyncio.Transport) -> bool:
    return transport.get_extra_info("sslcontext") is not None


def is_size(digits: bytes, size: int) -> bool:
    """Return whether these are a chunk's size as every reader reads it: no sign, no zeros before it, no extension."""
    return digits == b"%x" % size or digits == b"%X" % size


def ends_a_chunk(data: bytes, body: bytes) -> bool:
    """Return whether the last bytes that llhttp handed on of a read were the end of a chunk, and all else framing."""
    end = len(data) - 2
    return len(body) > _LONGEST_SIZE and data.startswith(body, end - len(body)) and data.startswith(_LINE_END, end)
