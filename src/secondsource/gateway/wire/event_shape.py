"""The commonplace event of a stream by its outline: the same bytes every time, save one text.

An engine writes each event of an answer with the same members in the same order. So an event that begins and ends as
one that was parsed, with the inside of one string between, says the same with another text, and is not parsed.
"""

import re
from typing import NamedTuple

import msgspec

from secondsource.gateway.wire.events import parse_chunk

_PREFIX = b"data: "
_NOT_AS_IT_IS = re.compile(rb'["\\\x00-\x1f]')
# Escapes of whole characters: half of one, in two escapes, is for who parses.
_ESCAPED = re.compile(
    rb'(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u(?![dD][89a-fA-F])[0-9a-fA-F]{4}))+'
)  # no half characters
_MARK = "\u2588 another text \u2588"


class EventShape:
    """What stands before and after the text of a choice, as it comes and as it is passed on."""

    __slots__ = ("after", "as_it_came", "before", "index", "sent_after", "sent_before")

    def __init__(
        self, before: bytes, after: bytes, index: int, sent_before: bytes | None = None, sent_after: bytes | None = None
    ) -> None:
        self.before = before
        self.after = after  # with the blank line that ends the event
        self.index = index  # of the choice
        self.sent_before = before if sent_before is None else sent_before
        self.sent_after = after if sent_after is None else sent_after  # neither is longer than what came
        self.as_it_came = (self.sent_before, self.sent_after) == (before, after)

    def fits(self, event: bytes) -> bool:
        """Return whether an event (without its blank line) is of this shape, whatever its text."""
        return event.startswith(self.before) and event.endswith(self.after[:-2])


class RawTexts(NamedTuple):
    """Texts of commonplace events, each the inside of a JSON string and a NUL after it: few answers are looked at."""

    raw: bytes
    events: int

    def read(self) -> list[str]:
        """Return the texts, one an event."""
        each = self.raw[:-1]
        texts = [unescaped(raw) for raw in each.split(b"\0")] if b"\\" in each else each.decode().split("\0")
        assert len(texts) == self.events, "other texts than were counted"
        return texts


def inner_text(raw: bytes) -> str | None:
    """Return what the inside of a JSON string says; None where it is empty, is none, or says half a character."""
    if not raw:
        return None
    try:
        if _NOT_AS_IT_IS.search(raw) is None:
            return raw.decode()
        return unescaped(raw) if _ESCAPED.fullmatch(raw) else None
    except UnicodeDecodeError:
        return None


def unescaped(raw: bytes) -> str:
    """Return what the inside of a JSON string says, which is known to be one; raises UnicodeDecodeError."""
    return msgspec.json.decode(b'"' + raw + b'"', type=str)


def shape_of(event: bytes, index: int, text: str, sent: bytes) -> EventShape | None:
    """Return the shape of an event (without its blank line) that was parsed: more text of one choice, nothing else.

    `sent` is the event as it was passed on: the same, or without a member that the client did not ask for.

    None where the text does not stand in it once, as it is. That the bytes around it say the same of any other text
    is not taken for granted, but parsed.
    """
    raw = text.encode(errors="surrogatepass")
    quoted = b'"' + raw + b'"'
    if (
        not raw
        or _NOT_AS_IT_IS.search(raw)
        or not event.startswith(_PREFIX)
        or b"\n" in event
        or event.count(quoted) != 1
    ):
        return None
    if sent.count(quoted) != 1 or len(sent) > len(event):
        return None
    before, after = _around(event, quoted)
    try:
        chunk = parse_chunk((before + _MARK.encode() + after).removeprefix(_PREFIX))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    choices = chunk.choices or []
    if [(choice.index, choice.plain_text) for choice in choices] != [(index, _MARK)]:
        return None
    sent_before, sent_after = _around(sent, quoted)
    return EventShape(before, after + b"\n\n", index, sent_before, sent_after + b"\n\n")


def _around(event: bytes, quoted: bytes) -> tuple[bytes, bytes]:
    """Return what stands before and after the inside of a string that stands in an event once."""
    before, _, after = event.partition(quoted)
    return before + b'"', b'"' + after
