"""Answers as OpenAI's API words them: tokens in, the JSON of events and whole answers out. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from secondsource.engine.service.jobs import Made
from secondsource.engine.service.stopping import TextStream

Json = dict[str, Any]


class Vocabulary(Protocol):
    """What is needed of `tokenizer.Tokenizer`."""

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes that a token adds to a text."""

    def token_text(self, token: int) -> str:
        """Return a token as a person reads it."""


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """What the client wants to see of its answers."""

    chat: bool
    name: str  # the answer's id
    model: str
    created: int  # Unix seconds
    top_logprobs: int | None = None  # None: no logprobs
    token_ids: bool = False


class Part(msgspec.Struct, frozen=True):
    """What one token adds to an answer."""

    text: str
    token: int
    logprob: Json | None
    finish: str | None


class Growing:
    """One answer as it grows: its text, its ids and why it ended."""

    def __init__(self, vocabulary: Vocabulary, stops: Sequence[str], top_logprobs: int | None) -> None:
        self._vocabulary = vocabulary
        self._stream = TextStream(stops)
        self._top_logprobs = top_logprobs
        self.parts: list[Part] = []
        self.offset = 0  # characters so far

    def take(self, made: Made) -> Part:
        """Add a token; returns what it adds. With a `finish` the answer is whole, and wants no more tokens."""
        ends = made.finish == "stop"  # an end token's own text is no part of the answer
        text = self._stream.push(b"" if ends else self._vocabulary.token_bytes(made.token))
        finish = "stop" if self._stream.stopped else made.finish
        if finish is not None:
            text += self._stream.end()
        logprob = None if self._top_logprobs is None else self._logprob(made)
        part = Part(text, made.token, logprob, finish)
        self.parts.append(part)
        self.offset += len(text)
        return part

    def _logprob(self, made: Made) -> Json:
        top = [self._entry(token, logprob) for token, logprob in made.top[: self._top_logprobs]]
        return {**self._entry(made.token, made.logprob), "top_logprobs": top}

    def _entry(self, token: int, logprob: float) -> Json:
        text = self._vocabulary.token_text(token)
        data = self._vocabulary.token_bytes(token) or text.encode()
        return {"token": text, "logprob": logprob, "bytes": list(data)}


def opening(shape: Shape, prompts: Sequence[Sequence[int]], choices: int) -> Json | None:
    """Return the event before the first token: a chat's role, and the prompt's ids where they are wanted."""
    event = _head(shape, streamed=True)
    if shape.chat:
        delta = {"role": "assistant", "content": ""}
        event["choices"] = [{"index": index, "delta": delta, "finish_reason": None} for index in range(choices)]
    elif not shape.token_ids:
        return None
    if shape.token_ids and len(prompts) == 1:
        event["prompt_token_ids"] = list(prompts[0])
    return event


def event(shape: Shape, index: int, part: Part, offset: int) -> Json | None:
    """Return the event of one token, or None when there is nothing in it to see; `offset` is where its text begins."""
    if not part.text and part.finish is None and not shape.token_ids and part.logprob is None:
        return None
    choice: Json = {"index": index}
    if shape.chat:
        choice["delta"] = {"content": part.text} if part.text else {}
    else:
        choice["text"] = part.text
    if shape.top_logprobs is not None:
        choice["logprobs"] = _logprobs(shape, [part], offset)
    choice["finish_reason"] = part.finish
    if shape.token_ids:
        choice["token_ids"] = [part.token]
    return {**_head(shape, streamed=True), "choices": [choice]}


def closing(shape: Shape, usage: Json) -> Json:
    """Return the event that tells a stream's usage."""
    return {**_head(shape, streamed=True), "choices": [], "usage": usage}


def whole(shape: Shape, growing: Sequence[Growing], prompts: Sequence[Sequence[int]], usage: Json) -> Json:
    """Return the answer of a request that is not streamed."""
    choices = []
    for index, one in enumerate(growing):
        text = "".join(part.text for part in one.parts)
        choice: Json = {"index": index}
        if shape.chat:
            choice["message"] = {"role": "assistant", "content": text}
        else:
            choice["text"] = text
        choice["logprobs"] = None if shape.top_logprobs is None else _logprobs(shape, one.parts, 0)
        choice["finish_reason"] = one.parts[-1].finish
        if shape.token_ids:
            choice["token_ids"] = [part.token for part in one.parts]
        choices.append(choice)
    answer = {**_head(shape, streamed=False), "choices": choices, "usage": usage}
    if shape.token_ids and len(prompts) == 1:
        answer["prompt_token_ids"] = list(prompts[0])
    return answer


def usage_of(prompts: Sequence[Sequence[int]], growing: Sequence[Growing]) -> Json:
    """Return the count of tokens; a prompt that has several answers is counted once."""
    prompt = sum(len(one) for one in prompts)
    made = sum(len(one.parts) for one in growing)
    return {"prompt_tokens": prompt, "completion_tokens": made, "total_tokens": prompt + made}


def _head(shape: Shape, *, streamed: bool) -> Json:
    kind = ("chat.completion.chunk" if streamed else "chat.completion") if shape.chat else "text_completion"
    return {"id": shape.name, "object": kind, "created": shape.created, "model": shape.model, "choices": []}


def _logprobs(shape: Shape, parts: Sequence[Part], offset: int) -> Json:
    entries: list[Mapping[str, Any]] = [part.logprob for part in parts if part.logprob is not None]
    if shape.chat:
        return {"content": entries}
    offsets = []
    for part in parts:
        offsets.append(offset)
        offset += len(part.text)
    return {
        "tokens": [entry["token"] for entry in entries],
        "token_logprobs": [entry["logprob"] for entry in entries],
        "top_logprobs": [{top["token"]: top["logprob"] for top in entry["top_logprobs"]} for entry in entries],
        "text_offset": offsets,
    }
