"""A probe as an OpenAI-compatible request, and a replica's bytes as an answer. Pure."""

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from secondsource.parity.probes import RAW, Probe, json_schema

CHAT_PATH, RAW_PATH = b"/v1/chat/completions", b"/v1/completions"
# How servers write the token that ends an answer: by one of its names, or as no text at all.
ENDS = re.compile(rb"<\|[^|<>\s]*\|>|</?s>|<(?:eos|bos|pad|end_of_turn|end_of_text)>")
END = b""
LONGEST_ERROR = 300  # characters kept of what a replica says is wrong


class Token(msgspec.Struct, frozen=True, array_like=True):
    """A token by its bytes, and its natural log probability."""

    text: bytes
    logprob: float


class Position(msgspec.Struct, frozen=True, array_like=True):
    """One token of an answer: which one it was, and the likeliest ones, best first."""

    chosen: bytes
    top: tuple[Token, ...]


class ToolCall(msgspec.Struct, frozen=True, array_like=True):
    """A tool call as the replica wrote it."""

    name: str
    arguments: str


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a replica answered; `status` 0: nothing, and `error` says why."""

    status: int
    error: str = ""
    text: str = ""
    positions: tuple[Position, ...] = ()  # empty when the replica gives no logprobs
    calls: tuple[ToolCall, ...] = ()
    finish: str = ""
    prompt_tokens: int | None = None
    answer_tokens: int | None = None


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """How a probe is put to one pool."""

    model: str  # as the replica knows it
    top_logprobs: int = 0  # 0: do not ask for any
    temperature: float = 0.0
    seed: int | None = None


def request_of(probe: Probe, asked: Asked, said: str = "") -> tuple[bytes, bytes]:
    """Return path and body; `said` is what of the answer is given already, for raw completions only."""
    body: dict[str, Any] = {"model": asked.model, "max_tokens": probe.max_tokens, "temperature": asked.temperature}
    if asked.seed is not None:
        body["seed"] = asked.seed
    if probe.kind in RAW:
        body["prompt"] = probe.prompt + said
        if asked.top_logprobs:
            body["logprobs"] = asked.top_logprobs
        return RAW_PATH, msgspec.json.encode(body)
    body["messages"] = probe.messages
    if asked.top_logprobs:
        body |= {"logprobs": True, "top_logprobs": asked.top_logprobs}
    if probe.tool:
        about = {"name": probe.tool, "description": "Book a delivery.", "parameters": json_schema(probe.fields)}
        body["tools"] = [{"type": "function", "function": about}]
        body["tool_choice"] = "required"
    elif probe.fields:
        wanted = {"name": "delivery", "strict": True, "schema": json_schema(probe.fields)}
        body["response_format"] = {"type": "json_schema", "json_schema": wanted}
    return CHAT_PATH, msgspec.json.encode(body)


class _Listed(msgspec.Struct):
    token: str = ""
    logprob: float = -9999.0
    bytes: list[int] | None = None


class _Spot(_Listed):
    top_logprobs: list[_Listed] = []


class _Logprobs(msgspec.Struct):
    content: list[_Spot] | None = None  # a chat's form, and llama.cpp's for both
    tokens: list[str] | None = None  # the older form of raw completions
    top_logprobs: list[dict[str, float] | None] | None = None


class _Function(msgspec.Struct):
    name: str = ""
    arguments: str | None = None


class _Call(msgspec.Struct):
    function: _Function = msgspec.field(default_factory=_Function)


class _Message(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(msgspec.Struct):
    message: _Message = msgspec.field(default_factory=_Message)
    text: str = ""
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Body(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None


_BODY = msgspec.json.Decoder(_Body)


def read_answer(status: int, body: bytes) -> Answer:
    """Return the answer in a whole response body; one that cannot be read has status 0."""
    if status != 200:
        return Answer(status=status, error=body[:LONGEST_ERROR].decode(errors="replace"))
    try:
        read = _BODY.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return Answer(status=0, error=f"not a completion: {error}")
    if not read.choices:
        return Answer(status=0, error="an answer without choices")
    choice, usage = read.choices[0], read.usage or _Usage()
    calls = choice.message.tool_calls or []
    return Answer(
        status=200,
        text=choice.text or (choice.message.reasoning_content or "") + (choice.message.content or ""),
        positions=_positions(choice.logprobs) if choice.logprobs is not None else (),
        calls=tuple(ToolCall(call.function.name, call.function.arguments or "") for call in calls),
        finish=choice.finish_reason or "",
        prompt_tokens=usage.prompt_tokens,
        answer_tokens=usage.completion_tokens,
    )


def _positions(logprobs: _Logprobs) -> tuple[Position, ...]:
    if logprobs.content is not None:
        return tuple(
            Position(_bytes(spot), _ranked(Token(_bytes(one), one.logprob) for one in spot.top_logprobs))
            for spot in logprobs.content
        )
    listed = zip(logprobs.tokens or [], logprobs.top_logprobs or [], strict=False)
    return tuple(
        Position(
            _named(chosen.encode()), _ranked(Token(_named(text.encode()), value) for text, value in (top or {}).items())
        )
        for chosen, top in listed
    )


def _bytes(one: _Listed) -> bytes:
    return _named(bytes(one.bytes) if one.bytes is not None else one.token.encode())


def _named(text: bytes) -> bytes:
    return END if ENDS.fullmatch(text) else text


def _ranked(tokens: Iterable[Token]) -> tuple[Token, ...]:
    return tuple(sorted(tokens, key=lambda token: -token.logprob))
