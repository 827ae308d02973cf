"""What a replica's answer means: whose fault an error is, and when to come back."""

import math
from datetime import UTC
from email.utils import parsedate_to_datetime

import msgspec

from secondsource.core.records import Outcome

OVERFLOW_CODES = frozenset({"context_length_exceeded", "exceed_context_size_error"})
# How engines that give no code say it: vLLM, SGLang, llama.cpp, TGI.
OVERFLOW_WORDS = ("maximum context length", "context size", "context length", "context window", "max_total_tokens")
BROKEN_OFF = frozenset({"abort", "error"})  # how vLLM and SGLang name an answer that they gave up
CALLERS_OWN = frozenset({400, 409, 410, 411, 413, 415, 422, 451})
MAY_BE_OVERFLOW = frozenset({400, 413, 422})


class _Error(msgspec.Struct):
    message: str | None = None
    type: str | None = None
    code: str | int | None = None


class _Body(msgspec.Struct):
    error: _Error | str | None = None
    message: str | None = None
    detail: msgspec.Raw = msgspec.Raw(b"")


def outcome_of(status: int, body: bytes) -> Outcome:
    """Return what an HTTP answer means; 401, 403 and 404 are our own key or configuration, not the caller's."""
    if 200 <= status < 300:
        return Outcome.OK
    if status == 429:
        return Outcome.THROTTLED
    if status in MAY_BE_OVERFLOW and _is_overflow(body):
        return Outcome.CONTEXT_OVERFLOW
    if status == 501:
        return Outcome.NOT_OFFERED
    if status in CALLERS_OWN:
        return Outcome.CALLER_ERROR
    return Outcome.SERVER_ERROR


class Answer(msgspec.Struct, gc=False, frozen=True):
    """An answer of status 200 as far as the gateway looks at it."""

    error: msgspec.Raw = msgspec.Raw(b"")
    usage: msgspec.Raw = msgspec.Raw(b"")
    choices: msgspec.Raw = msgspec.Raw(b"")


class _Choice(msgspec.Struct, gc=False, frozen=True):
    finish_reason: str | None = None


_answer = msgspec.json.Decoder(Answer)
_choices = msgspec.json.Decoder(list[_Choice] | None)


def parse_answer(body: bytes) -> Answer:
    """Return a whole answer; raises msgspec.DecodeError for what is not JSON, ValidationError for no object."""
    return _answer.decode(body)


def broken_off(answer: Answer) -> bool:
    """Return whether a choice ended because the replica gave it up; an unknown shape is not ours to judge."""
    if not answer.choices:
        return False
    try:
        choices = _choices.decode(answer.choices) or []
    except msgspec.DecodeError:
        return False
    return any(choice.finish_reason in BROKEN_OFF for choice in choices)


def _is_overflow(body: bytes) -> bool:
    try:
        answer = msgspec.json.decode(body, type=_Body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    error = answer.error
    if isinstance(error, _Error):
        if error.code in OVERFLOW_CODES or error.type in OVERFLOW_CODES:
            return True
        text = error.message or ""
    else:
        text = error or answer.message or bytes(answer.detail).decode("utf-8", "replace")
    text = text.lower()
    return any(words in text for words in OVERFLOW_WORDS)


def retry_after_s(headers: dict[bytes, bytes], wall_s: float) -> float | None:
    """Return how long a replica asks to be left alone, in seconds, or None; `wall_s` is Unix time."""
    for name, unit in ((b"retry-after-ms", 1000.0), (b"retry-after", 1.0)):
        value = headers.get(name, b"").decode("latin-1").strip()
        if not value:
            continue
        try:
            seconds = float(value) / unit
        except ValueError:
            pass
        else:
            return None if math.isnan(seconds) else max(seconds, 0.0)
        try:
            at = parsedate_to_datetime(value)
        except ValueError:
            continue
        return max((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - wall_s, 0.0)
    return None
