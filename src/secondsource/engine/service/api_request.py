"""OpenAI's request bodies as this engine reads them: each parameter checked, and jobs made of them. Pure.

What vLLM adds is taken under its names: `top_k`, `min_p`, `repetition_penalty`, `ignore_eos`, `stop_token_ids`,
`continue_final_message`, `add_generation_prompt`, `return_token_ids`, a prompt of token ids. A parameter that is
not known is ignored, as there; one that is known and not offered here is refused, and named.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from secondsource.core.grammars import GRAMMARS
from secondsource.engine.service.jobs import Sampling
from secondsource.engine.service.sampler import MOST_TOP_LOGPROBS

MOST_CHOICES = 16
_NOTHING: tuple[Any, ...] = (None, False, "", [], {}, "none", "text")
# What would change the answer and is not offered: to leave it out silently would be to answer another question.
_NOT_OFFERED = (
    "tools",
    "functions",
    "audio",
    "echo",
    "suffix",
    *GRAMMARS,
    "min_tokens",
    "prompt_logprobs",
)


class DetokenizeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What `/detokenize` is asked, as at vLLM."""

    tokens: list[int]


class ApiError(Exception):
    """A request that is refused; the text is for the client."""

    def __init__(self, message: str, *, status: int = 400, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message, self.status, self.param, self.code = message, status, param, code


class StreamOptions(msgspec.Struct, frozen=True):
    """What a stream carries besides the answer."""

    include_usage: bool | None = None


class Generation(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters that chats and text completions share; absent and null mean the default."""

    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool | None = None
    logit_bias: dict[str, float] | None = None
    n: int | None = None
    return_token_ids: bool | None = None

    @property
    def stops(self) -> list[str]:
        """The stop strings."""
        return [self.stop] if isinstance(self.stop, str) else list(self.stop or ())

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with its usage."""
        return bool(self.stream_options and self.stream_options.include_usage)


class ChatRequest(Generation, frozen=True, kw_only=True):
    """A chat."""

    messages: list[dict[str, Any]]
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None


class CompletionRequest(Generation, frozen=True, kw_only=True):
    """A text completion: of one text or list of ids, or of several. Texts among ids are one prompt, as at llama.cpp."""

    prompt: str | list[int | str | list[int]]
    logprobs: int | None = None


class TokenizeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What `/tokenize` is asked, as at vLLM: a text, or a chat."""

    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    add_special_tokens: bool = True
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None


def parse(body: bytes, kind: type[msgspec.Struct]) -> Any:
    """Return the request, of the type `kind`; raises ApiError that names the parameter and what was expected."""
    try:
        fields = msgspec.json.decode(body, type=dict[str, Any])
        request = msgspec.convert(fields, kind)  # the decoded fields are looked at once more below
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at `$.")
        parameter = place.split("[")[0].rstrip("`") or None
        where = f"invalid '{parameter}': " if parameter else ""
        raise ApiError(f"{where}{message}", param=parameter, code="invalid_type") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ApiError(f"the request body is not valid JSON: {error}") from None
    if isinstance(request, Generation):
        _refuse_what_is_not_offered(fields)
    return request


def _refuse_what_is_not_offered(fields: Mapping[str, Any]) -> None:
    asked = [name for name in _NOT_OFFERED if fields.get(name) not in _NOTHING and fields.get(name) != 0]
    if fields.get("tool_choice") == "none":
        asked = [name for name in asked if name != "tools"]
    form = fields.get("response_format")
    if isinstance(form, dict) and form.get("type") not in _NOTHING:
        asked.append("response_format")
    if fields.get("best_of") not in (None, 1, fields.get("n")):
        asked.append("best_of")
    if asked:
        raise ApiError(f"this engine does not offer '{asked[0]}'", status=501, param=asked[0], code="not_offered")


def sampling_of(request: Generation, vocabulary: int, *, logprobs: bool, seed: int) -> Sampling:
    """Return how an answer is sampled; `seed` stands in for one that the client did not give. Raises ApiError."""

    def value(name: str, default: float, low: float, high: float) -> float:
        given: float | None = getattr(request, name)
        if given is None:
            return default
        if not low <= given <= high:
            raise ApiError(f"'{name}' must be between {low:g} and {high:g}", param=name, code="invalid_value")
        return given

    return Sampling(
        temperature=value("temperature", 1.0, 0.0, 100.0),
        top_k=max(0, int(value("top_k", 0, -1, 2**31 - 1))),
        top_p=value("top_p", 1.0, 0.0, 1.0),
        min_p=value("min_p", 0.0, 0.0, 1.0),
        repetition_penalty=value("repetition_penalty", 1.0, 0.01, 100.0),
        presence_penalty=value("presence_penalty", 0.0, -2.0, 2.0),
        frequency_penalty=value("frequency_penalty", 0.0, -2.0, 2.0),
        seed=(seed if request.seed is None else request.seed) % 2**32,
        bias=_bias(request.logit_bias or {}, vocabulary),
        logprobs=logprobs,
    )


def _bias(given: Mapping[str, float], vocabulary: int) -> tuple[tuple[int, float], ...]:
    bias = []
    for name, value in given.items():
        if not (name.isascii() and name.isdigit() and int(name) < vocabulary and -100 <= value <= 100):
            raise ApiError(
                f"'logit_bias' maps token ids below {vocabulary} to numbers between -100 and 100",
                param="logit_bias",
                code="invalid_value",
            )
        bias.append((int(name), value))
    return tuple(bias)


def choices_of(request: Generation) -> int:
    """Return how many answers to each prompt are asked for; raises ApiError."""
    count = 1 if request.n is None else request.n
    if not 1 <= count <= MOST_CHOICES:
        raise ApiError(f"'n' must be between 1 and {MOST_CHOICES}", param="n", code="invalid_value")
    return count


def prompts_of(request: CompletionRequest) -> list[str | list[int | str]]:
    """Return the prompts of a text completion, at least one; raises ApiError."""
    prompt = request.prompt
    if isinstance(prompt, str):
        return [prompt]
    pieces = [piece for piece in prompt if not isinstance(piece, list)]
    if not prompt or (pieces and len(pieces) != len(prompt)):
        expected = "a text, a list of token ids, or a list of either"
        raise ApiError(f"'prompt' must be {expected}", param="prompt", code="invalid_value")
    if any(isinstance(piece, int) for piece in pieces):
        return [pieces]
    return [piece if isinstance(piece, str) else [*piece] for piece in prompt if not isinstance(piece, int)]


def top_logprobs_of(wanted: int | None, name: str) -> int:
    """Return how many alternatives are wanted with each token; raises ApiError."""
    count = wanted or 0
    if not 0 <= count <= MOST_TOP_LOGPROBS:
        raise ApiError(f"'{name}' must be between 0 and {MOST_TOP_LOGPROBS}", param=name, code="invalid_value")
    return count


def plain_messages(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the messages with every content one text; raises ApiError for what is none, such as an image."""
    if not messages:
        raise ApiError("'messages' must hold at least one message", param="messages", code="empty_array")
    plain = []
    for message in messages:
        if not isinstance(message.get("role"), str):
            raise ApiError("every message needs a 'role'", param="messages", code="invalid_value")
        plain.append({**message, "content": _text_of(message.get("content"))})
    return plain


def _text_of(content: Any) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    texts = [part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise ApiError("this engine reads text only: a content is a string or text parts", param="messages")
    return "".join(text for text in texts if text is not None)
