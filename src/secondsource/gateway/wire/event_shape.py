"""The commonplace event of a stream by its outline: the same bytes every time, save one text.

An engine writes each event of an answer with the same members in the same order. So an event that begins and ends as
one that was parsed, with a text between that needs no unescaping, says the same with another text, and is not parsed.
"""

import re

import msgspec

from secondsource.gateway.wire.events import parse_chunk

_PREFIX = b"data: "
_NEEDS_PARSING = re.compile(rb'["\\\x00-\x1f]')
_MARK = "\u2588 another text \u2588"


class EventShape:
    """What stands before and after the text of a choice."""

    __slots__ = ("after", "before", "index")

    def __init__(self, before: bytes, after: bytes, index: int) -> None:
        self.before = before
        self.after = after  # with the blank line that ends the event
        self.index = index  # of the choice

    def fits(self, event: bytes) -> bool:
        """Return whether an event (without its blank line) is of this shape, whatever its text."""
        return event.startswith(self.before) and event.endswith(self.after[:-2])


def plain_text(raw: bytes) -> str | None:
    """Return what the inside of a JSON string says where that is what it is; None for escapes and for no text."""
    if not raw or _NEEDS_PARSING.search(raw) is not None:
        return None
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None


def shape_of(event: bytes, index: int, text: str) -> EventShape | None:
    """Return the shape of an event (without its blank line) that was parsed: more text of one choice, nothing else.

    None where the text does not stand in it once, as it is. That the bytes around it say the same of any other text
    is not taken for granted, but parsed.
    """
    raw = text.encode(errors="surrogatepass")
    quoted = b'"' + raw + b'"'
    if plain_text(raw) is None or not event.startswith(_PREFIX) or b"\n" in event or event.count(quoted) != 1:
        return None
    start = event.index(quoted) + 1
    before, after = event[:start], event[start + len(raw) :]
    try:
        chunk = parse_chunk((before + _MARK.encode() + after).removeprefix(_PREFIX))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    choices = chunk.choices or []
    if [(choice.index, choice.plain_text) for choice in choices] != [(index, _MARK)]:
        return None
    return EventShape(before, after + b"\n\n", index)
