"""Server-sent events as bytes: whole events out of any chunking, and what one event of an answer says.

Partial events are held back until they are whole, so that a cut never hands half an event on.
"""

import msgspec

from secondsource.policy.accounting import Usage

MOST_TOKENS = 1_000_000_000  # in one answer; more is a lie
DONE = b"data: [DONE]\n\n"
_EMPTY = msgspec.Raw(b"")


class EventScanner:
    """Splits a byte stream into events; every chunking of the same bytes gives the same events."""

    __slots__ = ("_held", "_limit", "too_long")

    def __init__(self, limit: int) -> None:
        self._held = b""
        self._limit = limit
        self.too_long = False  # an event has grown over the limit: the stream ends before it

    def feed(self, data: bytes) -> list[bytes]:
        """Return the events that are now whole, each without its blank line; lines end in LF."""
        if self.too_long:
            return []
        if self._held:
            data = self._held + data
        if b"\r" in data:
            data = _line_feeds(data)
        events = data.split(b"\n\n")
        self._held = events.pop()
        return events if len(data) <= self._limit else self._up_to_too_long(events)

    def _up_to_too_long(self, events: list[bytes]) -> list[bytes]:
        for number, event in enumerate(events):
            if len(event) > self._limit:
                self.too_long, self._held = True, b""
                return events[:number]
        if len(self._held.rstrip(b"\r\n")) > self._limit:
            self.too_long, self._held = True, b""
        return events

    @property
    def holds(self) -> bool:
        """Whether part of an event is held."""
        return bool(self._held)

    def rest(self) -> bytes:
        """Return and forget what is held: a last event that lacks its blank line."""
        held, self._held = self._held, b""
        return held.strip(b"\r\n")


def _line_feeds(data: bytes) -> bytes:
    # A carriage return at the very end may be half of a CRLF: it stays, and is looked at again with what follows.
    # JSON escapes both, so neither occurs inside a payload.
    if data.endswith(b"\r"):
        return data[:-1].replace(b"\r\n", b"\n").replace(b"\r", b"\n") + b"\r"
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def payload_of(event: bytes) -> bytes | None:
    """Return the data of an event, or None when it has none (a comment, a bare event name)."""
    if event.startswith(b"data: ") and b"\n" not in event:
        return event[6:]
    lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines) if lines else None


class ToolCallDelta(msgspec.Struct, gc=False, frozen=True):
    """A fragment of a tool call."""

    index: int = 0
    id: str | None = None
    function: dict[str, str | None] | None = None


class Delta(msgspec.Struct, gc=False, frozen=True):
    """What one chat event adds to a choice."""

    role: str | None = None
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCallDelta] | None = None
    function_call: msgspec.Raw = _EMPTY


class ChoiceDelta(msgspec.Struct, gc=False, frozen=True):
    """What one event adds to a choice, of a chat (`delta`) or a text completion (`text`)."""

    index: int = 0
    delta: Delta | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: msgspec.Raw = _EMPTY
    token_ids: msgspec.Raw = _EMPTY

    @property
    def adds(self) -> bool:
        """Return whether the event carries anything of the answer itself."""
        delta = self.delta
        if delta is None:
            return bool(self.text)
        return bool(
            delta.content
            or delta.reasoning_content
            or delta.reasoning
            or delta.refusal
            or delta.tool_calls
            or delta.function_call
        )

    @property
    def plain_text(self) -> str | None:
        """Return the text, where the event carries that and nothing else; None for any other."""
        delta = self.delta
        if self.finish_reason is not None:
            return None
        if delta is None:
            return self.text or None
        if delta.reasoning_content or delta.reasoning or delta.refusal or delta.tool_calls or delta.function_call:
            return None
        return delta.content or None


class Chunk(msgspec.Struct, gc=False, frozen=True):
    """One event of a streamed answer, as far as the gateway looks at it."""

    choices: list[ChoiceDelta] | None = None
    id: str | int | None = None
    object: str | None = None
    created: int | float | None = None
    usage: msgspec.Raw = _EMPTY
    error: msgspec.Raw = _EMPTY
    prompt_token_ids: msgspec.Raw = _EMPTY


class PromptDetails(msgspec.Struct, gc=False, frozen=True):
    """Where prompt tokens came from."""

    cached_tokens: int | None = None


class CompletionDetails(msgspec.Struct, gc=False, frozen=True):
    """What answer tokens were for."""

    reasoning_tokens: int | None = None


class UsageReport(msgspec.Struct, gc=False, frozen=True):
    """A replica's own count of tokens."""

    prompt_tokens: int = 0
    completion_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None

    def usage(self) -> Usage | None:
        """Return the count, or None when it cannot be true."""
        details = self.prompt_tokens_details
        cached = (details.cached_tokens or 0) if details else 0
        out = self.completion_tokens or 0
        reasons = self.completion_tokens_details
        hidden = (reasons.reasoning_tokens or 0) if reasons else 0
        if min(self.prompt_tokens, cached, out, hidden) < 0 or cached > self.prompt_tokens:
            return None
        if max(self.prompt_tokens, out) > MOST_TOKENS:
            return None
        return Usage(self.prompt_tokens, cached, out, hidden)


_chunk = msgspec.json.Decoder(Chunk)
_usage = msgspec.json.Decoder(UsageReport)


def parse_chunk(payload: bytes) -> Chunk:
    """Return what an event says; raises msgspec.DecodeError when it is not what it should be."""
    return _chunk.decode(payload)


class _ChoiceOutline(msgspec.Struct, gc=False, frozen=True):
    index: int = 0
    finish_reason: str | None = None


class _Outline(msgspec.Struct, gc=False, frozen=True):
    choices: list[_ChoiceOutline] | None = None
    error: msgspec.Raw = _EMPTY


_outline = msgspec.json.Decoder(_Outline)


def parse_outline(payload: bytes) -> Chunk | None:
    """Return which choices an event of unknown shape ends, and its error; None when not even that can be told."""
    try:
        outline = _outline.decode(payload)
    except msgspec.ValidationError:
        return None
    ends = [ChoiceDelta(index=one.index, finish_reason=one.finish_reason) for one in outline.choices or ()]
    return Chunk(choices=ends, error=outline.error)


def parse_usage(raw: bytes | msgspec.Raw) -> Usage | None:
    """Return a usage object's tokens, or None when it is null, missing or cannot be true."""
    if not raw or bytes(raw) == b"null":
        return None
    try:
        return _usage.decode(raw).usage()
    except msgspec.DecodeError:
        return None
