"""An answer's text as its tokens come: no half characters, and nothing of a stop string."""

import codecs
from collections.abc import Sequence


class TextStream:
    """Turns the bytes of tokens into text that may leave. Pure; one for each answer.

    Text that may be the beginning of a stop string is held until the next tokens show whether it is.
    """

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self.stopped = False  # a stop string has come; no more text will

    def push(self, token_bytes: bytes) -> str:
        """Return the text that may leave now that a token has added these bytes."""
        if self.stopped:
            return ""
        text = self._held + self._decoder.decode(token_bytes)
        # The stop string that is whole first, as if characters came one by one: tokens must not decide it.
        found = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)[1]]
        keep = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def end(self) -> str:
        """Return what was held, now that the answer is over; half a character at its very end is left off."""
        held, self._held = self._held, ""
        return "" if self.stopped else held


def _overlap(text: str, stop: str) -> int:
    """Return the length of the longest end of `text` with which `stop` begins, short of all of it."""
    for length in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
