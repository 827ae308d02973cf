"""How different engines understand a request to go on with an answer, and what they refuse."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from tests.faults import language_model as lm


class Dialect(StrEnum):
    """One engine's way with an answer that has begun."""

    VLLM = "vllm"  # continue_final_message and no generation prompt: goes on, does not repeat
    VLLM_TOKENS = "vllm-tokens"  # the same, and return_token_ids
    LLAMACPP = "llamacpp"  # a trailing assistant turn: goes on; ids with logprobs; mixed token prompts
    ECHO = "echo"  # a trailing assistant turn: goes on and repeats the given text first
    REFUSES = "refuses"  # 400 on a trailing assistant turn
    IGNORES = "ignores"  # closes the assistant's turn and begins another; 400 on arguments it does not know


VLLMS = frozenset({Dialect.VLLM, Dialect.VLLM_TOKENS})
DEFAULT_COMPLETION_TOKENS = 16  # of a legacy completion without max_tokens; llama.cpp has no such limit
HOSTED_UNKNOWN = ("continue_final_message", "add_generation_prompt", "return_token_ids", "return_tokens")


@dataclass(frozen=True)
class Refusal:
    """A 400 and its text, as the engine words it."""

    message: str
    kind: str = "invalid_request_error"
    code: str | None = None


@dataclass(frozen=True)
class Work:
    """What a request asks the model for, once a dialect has understood it."""

    prompt: str
    given: bytes = b""  # the model's own turn so far
    repeat: str = ""  # what is said again before going on
    ids: tuple[tuple[int, ...], ...] = field(default=())  # per choice: the tokens to make
    prompt_ids: tuple[int, ...] = ()
    tool_call: bool = False
    cut_by_limit: tuple[bool, ...] = ()
    text_limits: tuple[int | None, ...] = ()  # per choice: where a stop string ends the text

    @property
    def tokens_in(self) -> int:
        """The number of tokens of prompt, the turn so far included."""
        return len(self.prompt_ids)


def understand(
    path: str, body: dict[str, Any], dialect: Dialect, quirk: lm.Quirk | None, *, trims: bool = False
) -> Work | Refusal:
    """Return what to make for a request to `path`, or why it is refused."""
    if body.get("stream_options") is not None and not body.get("stream"):
        return Refusal("The 'stream_options' parameter is only allowed when 'stream' is enabled.")
    if dialect is Dialect.IGNORES and (unknown := [key for key in HOSTED_UNKNOWN if key in body]):
        return Refusal(f"Unrecognized request argument supplied: {unknown[0]}", code="unknown_parameter")
    if path.endswith("/chat/completions"):
        opened = _open_conversation(body, dialect)
        if isinstance(opened, Refusal):
            return opened
        text = opened[0].rstrip() if trims else opened[0]
        return _make(text.encode(), opened[1], body, quirk)
    given = prompt_bytes(body.get("prompt", ""), dialect)
    if isinstance(given, Refusal):
        return given
    if dialect not in {Dialect.LLAMACPP, Dialect.ECHO} and body.get("max_tokens") is None:
        body = body | {"max_tokens": DEFAULT_COMPLETION_TOKENS}
    return _make(given, "", body, quirk)


def fits(work: Work, body: dict[str, Any], dialect: Dialect, context_tokens: int) -> Refusal | None:
    """Return why a request does not fit the context: vLLM counts what it is asked to make as well."""
    wanted = body.get("max_completion_tokens") or body.get("max_tokens") or 1
    asked = work.tokens_in + (wanted if dialect in VLLMS else 1)
    if asked <= context_tokens:
        return None
    message = f"This model's maximum context length is {context_tokens} tokens. However, you requested {asked} tokens."
    return Refusal(message, "BadRequestError", "400")


def held_text(text: str, body: dict[str, Any], dialect: Dialect) -> int:
    """Return how many characters at the end of `text` this engine holds back in case they begin a stop string."""
    stops = lm.stops(body)
    if dialect in VLLMS:
        return max((len(stop) for stop in stops), default=1) - 1
    parts = [size for stop in stops for size in range(1, len(stop)) if text.endswith(stop[:size])]
    return max(parts, default=0)


def _open_conversation(body: dict[str, Any], dialect: Dialect) -> tuple[str, str] | Refusal:
    """Return the templated conversation and the text that this engine says again."""
    messages, mode = body["messages"], lm.mode_of(body)
    ends_with_assistant = messages[-1]["role"] == "assistant"
    continues, generates = body.get("continue_final_message", False), body.get("add_generation_prompt", True)
    if continues and generates:
        return Refusal("Cannot set both `continue_final_message` and `add_generation_prompt` to True.")
    if not ends_with_assistant:
        return lm.apply_template(messages, mode=mode), ""
    if dialect is Dialect.REFUSES:
        return Refusal("Cannot put an assistant message last: prefilling is not supported by this model.")
    if dialect in VLLMS:
        return lm.apply_template(messages, mode=mode, leave_open=continues), ""
    if dialect is Dialect.IGNORES:
        return lm.apply_template(messages, mode=mode), ""
    repeat = lm.text_of(messages[-1].get("content")) if dialect is Dialect.ECHO else ""
    return lm.apply_template(messages, mode=mode, leave_open=True), repeat


def prompt_bytes(prompt: Any, dialect: Dialect) -> bytes | Refusal:
    """Return a legacy prompt's bytes: text, token ids, or (llama.cpp) an array of both."""
    if isinstance(prompt, str):
        return prompt.encode()
    if not isinstance(prompt, list) or not prompt:
        return Refusal("`prompt` must be a string or an array of tokens.")
    if dialect not in {Dialect.LLAMACPP, Dialect.ECHO} and not all(isinstance(part, int) for part in prompt):
        return Refusal("`prompt` must be a string or an array of token ids.")
    if len(prompt) > 1 and all(isinstance(part, str) for part in prompt):
        return Refusal("An array of strings is several prompts; this replica answers one at a time.")
    parts = [lm.VOCABULARY[part] if isinstance(part, int) else str(part).encode() for part in prompt]
    return b"".join(parts)


def _make(text: bytes, repeat: str, body: dict[str, Any], quirk: lm.Quirk | None) -> Work:
    """Return the work for a whole templated prompt: the ids of each choice, `max_tokens` and `stop` applied."""
    prompt, given = split(text)
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    choices, cut, ends = [], [], []
    for choice in range(body.get("n") or 1):
        whole = lm.generate(lm.for_choice(prompt, choice), given, quirk)
        ids = whole if limit is None else whole[:limit]
        ids, end = _stopped(ids, body)
        choices.append(ids)
        ends.append(end)
        cut.append(end is None and len(ids) < len(whole))
    return Work(
        prompt=prompt,
        given=given,
        repeat=repeat,
        ids=tuple(choices),
        prompt_ids=tuple(lm.tokenize(text)),
        tool_call=lm.TOOL_MODE in prompt,
        cut_by_limit=tuple(cut),
        text_limits=tuple(ends),
    )


def _stopped(ids: tuple[int, ...], body: dict[str, Any]) -> tuple[tuple[int, ...], int | None]:
    """Return the ids up to the one that completes a stop string, and where the text ends before it.

    As engines do, only what is made now is looked at, not the turn so far.
    """
    for count in range(1, len(ids) + 1) if lm.stops(body) else ():
        end = lm.stop_at(lm.detokenize(ids[:count]).decode(errors="replace"), body)
        if end is not None:
            return ids[:count], end
    return ids, None


def split(text: bytes) -> tuple[str, bytes]:
    """Return prompt and turn so far; the turn may end within a character, so it is not decoded."""
    marks = [mark.encode() for mark in (lm.ASSISTANT, lm.RAW_MARK)]
    ends = [(text.rfind(mark), len(mark)) for mark in marks if mark in text]
    if not ends:
        return text.decode(), b""
    at = max(start + size for start, size in ends)
    return text[:at].decode(), text[at:]
