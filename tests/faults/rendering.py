"""A model's tokens as the bytes of OpenAI's wire format, one piece for every event."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.faults import language_model as lm
from tests.faults.dialects import Dialect, Work, held_text


@dataclass(frozen=True)
class Piece:
    """One event: its bytes, and how many tokens (and what text) they carry to the client."""

    payload: bytes
    tokens: int = 0
    text: str = ""
    final: bool = False  # carries a finish_reason, or comes after one
    usage: bool = False  # tells the usage


@dataclass(frozen=True)
class Answer:
    """Everything the rendering of one answer needs."""

    number: int
    model: str
    body: dict[str, Any]
    work: Work
    dialect: Dialect
    usage_factor: int = 1  # a replica that lies
    usage_given: bool = True

    @property
    def chat(self) -> bool:
        """Whether this is a chat completion and not a legacy one."""
        return "messages" in self.body

    @property
    def gives_ids(self) -> bool:
        """Whether this engine gives the ids of its tokens, as it was asked to."""
        return bool(self.body.get("return_token_ids")) and self.dialect is Dialect.VLLM_TOKENS

    @property
    def finish_reasons(self) -> list[str]:
        """The finish_reason of each choice."""
        whole = "tool_calls" if self.work.tool_call and self.chat else "stop"
        return ["length" if cut else whole for cut in self.work.cut_by_limit]

    def usage(self) -> dict[str, Any]:
        """The usage that the replica reports."""
        made = sum(len(ids) for ids in self.work.ids) * self.usage_factor
        tokens_in = self.work.tokens_in * self.usage_factor
        return {
            "prompt_tokens": tokens_in,
            "completion_tokens": made,
            "total_tokens": tokens_in + made,
            "prompt_tokens_details": {"cached_tokens": tokens_in // 2},
        }

    def frame(self, *, streamed: bool) -> dict[str, Any]:
        """The fields that every event of this answer has."""
        kind = ("chat.completion.chunk" if streamed else "chat.completion") if self.chat else "text_completion"
        prefix = "chatcmpl" if self.chat else "cmpl"
        return {"id": f"{prefix}-{self.number}", "object": kind, "created": 1760000000, "model": self.model}


def event(data: dict[str, Any]) -> bytes:
    """Return one server-sent event."""
    return b"data: " + json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def steps(answer: Answer, index: int) -> Iterator[tuple[list[int], str]]:
    """Yield the tokens and the text of each step of a choice, as far as the engine's detokenizer lets them out.

    A character in pieces comes whole, with its last token. Where vLLM gives token ids, the tokens before it come
    too, with no text; and where it has stop strings to look for, text comes later than its tokens. When the prompt
    ends within a character, vLLM says the whole prompt again (its issue 48853), and others say U+FFFD.
    """
    ids, work = answer.work.ids[index], answer.work
    each = answer.gives_ids
    limit = work.text_limits[index]
    held, said, text = b"", 0, ""
    if answer.gives_ids and lm.unfinished(work.given):
        held = work.prompt.encode() + work.given
    tokens: list[int] = []
    for position, number in enumerate(ids, start=1):
        held += lm.VOCABULARY[number]
        tokens.append(number)
        if not lm.unfinished(held):
            text, held = text + held.decode(errors="replace"), b""
        hold = 0 if position == len(ids) else held_text(text, answer.body, answer.dialect)
        upto = max(len(text) - hold, said)
        upto = upto if limit is None else min(upto, limit)
        if upto > said or each:
            yield tokens, text[said:upto]
            said, tokens = max(said, upto), []


def _logprobs(answer: Answer, ids: list[int], text: str) -> dict[str, Any] | None:
    """Return the log-probabilities of a step where asked for; llama.cpp adds the (last) token's id."""
    if not answer.body.get("logprobs") or not answer.chat or not ids:
        return None
    entry = {"token": text, "logprob": -0.1, "bytes": list(text.encode()), "top_logprobs": []}
    if answer.dialect is Dialect.LLAMACPP:
        entry = {"id": ids[-1], **entry}
    return {"content": [entry], "refusal": None}


def _choice(answer: Answer, index: int, ids: list[int], text: str) -> dict[str, Any]:
    """Return one streamed choice that carries `text`."""
    choice: dict[str, Any] = {"index": index, "finish_reason": None}
    if not answer.chat:
        choice |= {"text": text, "logprobs": None}
    elif answer.work.tool_call:
        call = {"index": 0, "function": {"arguments": text}}
        choice |= {"delta": {"tool_calls": [call]}, "logprobs": None}
    else:
        choice |= {"delta": {"content": text}, "logprobs": _logprobs(answer, ids, text)}
    if answer.gives_ids:
        choice["token_ids"] = ids
    return choice


def _opening(answer: Answer, index: int) -> dict[str, Any]:
    """Return the delta that begins a chat answer: the role, and a tool call's name."""
    delta: dict[str, Any] = {"role": "assistant", "content": None if answer.work.tool_call else ""}
    if answer.work.tool_call:
        name = answer.body["tools"][0]["function"]["name"]
        call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": name, "arguments": ""}}
        delta["tool_calls"] = [call]
    return {"index": index, "delta": delta, "finish_reason": None}


def stream(answer: Answer) -> Iterator[Piece]:
    """Yield the events of a streamed answer, `[DONE]` last."""
    frame = answer.frame(streamed=True)
    wants_usage = bool((answer.body.get("stream_options") or {}).get("include_usage"))
    extra: dict[str, Any] = {"usage": None} if wants_usage else {}
    if answer.chat:
        head = {"prompt_token_ids": list(answer.work.prompt_ids)} if answer.gives_ids else {}
        for index in range(len(answer.work.ids)):
            yield Piece(event(frame | head | {"choices": [_opening(answer, index)]} | extra))
    if answer.work.repeat:
        yield Piece(event(frame | {"choices": [_choice(answer, 0, [], answer.work.repeat)]} | extra))
    made = [list(steps(answer, index)) for index in range(len(answer.work.ids))]
    for index, (ids, text) in _interleaved(made):
        choice = _choice(answer, index, ids, text)
        yield Piece(event(frame | {"choices": [choice]} | extra), tokens=len(ids), text=text)
    for index, reason in enumerate(answer.finish_reasons):
        last = _choice(answer, index, [], "") | {"finish_reason": reason}
        if answer.chat:
            last |= {"delta": {}, "logprobs": None}
        yield Piece(event(frame | {"choices": [last]} | extra), final=True)
    if wants_usage and answer.usage_given:
        yield Piece(event(frame | {"choices": [], "usage": answer.usage()}), final=True, usage=True)
    yield Piece(DONE, final=True)


def _interleaved(choices: list[list[tuple[list[int], str]]]) -> Iterator[tuple[int, tuple[list[int], str]]]:
    """Yield the steps of several choices in turn, as engines do for n > 1."""
    for position in range(max(len(choice) for choice in choices)):
        for index, choice in enumerate(choices):
            if position < len(choice):
                yield index, choice[position]


def whole(answer: Answer) -> bytes:
    """Return the body of an answer that is not streamed."""
    choices = []
    for index, (ids, reason) in enumerate(zip(answer.work.ids, answer.finish_reasons, strict=True)):
        made = lm.detokenize(ids)
        text = made[: len(made) - len(lm.unfinished(made))].decode(errors="replace")
        text = answer.work.repeat + text[: answer.work.text_limits[index]]
        choice: dict[str, Any] = {"index": index, "finish_reason": reason, "logprobs": None}
        if not answer.chat:
            choice["text"] = text
        elif answer.work.tool_call:
            name = answer.body["tools"][0]["function"]["name"]
            function = {"name": name, "arguments": text}
            call = {"id": "call_1", "type": "function", "function": function}
            choice["message"] = {"role": "assistant", "content": None, "tool_calls": [call]}
        else:
            choice["message"] = {"role": "assistant", "content": text}
        choices.append(choice)
    data = answer.frame(streamed=False) | {"choices": choices}
    if answer.usage_given:
        data["usage"] = answer.usage()
    return json.dumps(data, ensure_ascii=False).encode()


def whole_text(body: bytes) -> str:
    """Return the text of every choice of an answer that is not streamed, one after another."""
    choices = json.loads(body)["choices"]
    return "".join(choice.get("text") or (choice.get("message") or {}).get("content") or "" for choice in choices)
