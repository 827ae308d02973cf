"""What we count ourselves of an answer, where a replica's usage is missing or cannot be true.

A token that shows is at least one byte of text, in every vocabulary in use, so a usage of more tokens than there are
bytes is wrong, however few events carried them. Tokens that the replica says it did not show (reasoning) are its own
to count.
"""

from typing import NamedTuple

import msgspec

from secondsource.gateway.wire.delivered import Delivered
from secondsource.policy.accounting import Usage

BYTES_PER_TOKEN = 4  # for text that no replica has counted
UNSEEN_TOKENS = 8  # of each choice: turn ends and other special tokens show no text
PLAUSIBLE_PER_EVENT = 2  # up to so many tokens an event, nothing is looked at
_NOTHING = msgspec.Raw(b"")


class Shown(NamedTuple):
    """What of an answer can be seen."""

    size: int  # bytes of text, of all choices
    choices: int


class _Message(msgspec.Struct, gc=False, frozen=True):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: msgspec.Raw = _NOTHING
    function_call: msgspec.Raw = _NOTHING
    audio: msgspec.Raw = _NOTHING


class _Choice(msgspec.Struct, gc=False, frozen=True):
    message: _Message | None = None
    text: str | None = None


_choices = msgspec.json.Decoder(list[_Choice])


def whole_bytes(choices: bytes | msgspec.Raw) -> Shown | None:
    """Return what a whole answer's choices show, or None for a shape that we do not know."""
    try:
        known = _choices.decode(choices)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    shown = 0
    for choice in known:
        message = choice.message or _Message()
        if message.audio and bytes(message.audio) != b"null":
            return None
        texts = (choice.text, message.content, message.reasoning_content or message.reasoning, message.refusal)
        shown += sum(len(text.encode()) for text in texts if text)
        shown += len(bytes(message.tool_calls)) + len(bytes(message.function_call))
    return Shown(shown, len(known))


def streamed_bytes(delivered: Delivered) -> Shown | None:
    """Return what has been sent of an answer, over all attempts, or None where not all of it was kept."""
    if not delivered.comparable:
        return None
    shown = 0
    for choice in delivered.choices.values():
        texts = (choice.text, *choice.reasoning, *choice.refusal)
        shown += sum(len(text.encode()) for text in texts)
        shown += sum(
            len(call.name) + len(call.arguments.encode()) + len(call.id) for call in choice.tool_calls.values()
        )
    return Shown(shown, len(delivered.choices))


def overstated(usage: Usage, shown: Shown) -> bool:
    """Return whether what is shown cannot have taken so many tokens."""
    return usage.tokens_out - usage.tokens_hidden > shown.size + UNSEEN_TOKENS * max(shown.choices, 1)


def of_stream(usage: Usage | None, events: int, delivered: Delivered, before: Shown | None = None) -> int | None:
    """Return the tokens of a streamed attempt that brought so many events, or None where its usage may stand.

    `before` is what attempts had shown from which this one went on.
    """
    if usage is None or usage.tokens_out < events:
        return events
    if not events or usage.tokens_out <= PLAUSIBLE_PER_EVENT * events + UNSEEN_TOKENS:
        return None
    shown = streamed_bytes(delivered)
    if shown is None:
        return None
    if before is not None:
        shown = Shown(shown.size - before.size, shown.choices)
    return events if overstated(usage, shown) else None


def of_whole(usage: Usage | None, body_length: int, choices: bytes | msgspec.Raw) -> int | None:
    """Return an estimate of the tokens of a whole answer, or None where its usage may stand, or nothing is known."""
    if usage is not None and usage.tokens_out <= body_length // 16:
        return None
    shown = whole_bytes(choices)
    if shown is None or (usage is not None and not overstated(usage, shown)):
        return None
    return -(-shown.size // BYTES_PER_TOKEN)
