"""From a request to the token ids that the model reads. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from secondsource.core.errors import InputError
from secondsource.engine.service.api_request import ApiError, ChatRequest, TokenizeRequest, plain_messages


class TextTokenizer(Protocol):
    """What is needed of `tokenizer.Tokenizer`."""

    vocabulary: int
    beginning_of_sequence: int | None
    adds_beginning: bool
    ends: frozenset[int]

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`, with no beginning token added."""

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of `tokens`."""

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes that a token adds to a text."""

    def token_text(self, token: int) -> str:
        """Return a token as a person reads it."""


class Template(Protocol):
    """What is needed of `chat_template.ChatTemplate`."""

    def render(
        self,
        messages: Sequence[Mapping[str, object]],
        *,
        tools: Sequence[Mapping[str, object]] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        variables: Mapping[str, object] | None = None,
    ) -> str:
        """Return the prompt's text; raises InputError where the template refuses the messages."""


class Prompter:
    """Makes prompts for one model."""

    def __init__(self, tokenizer: TextTokenizer, template: Template | None, context_tokens: int) -> None:
        self._tokenizer = tokenizer
        self._template = template
        self._context_tokens = context_tokens

    def of_chat(self, request: ChatRequest | TokenizeRequest) -> list[int]:
        """Return a chat's ids, as the model's own template words it; raises ApiError."""
        if self._template is None:
            raise ApiError("this model has no chat template: it is a base model; use /v1/completions", param="messages")
        continues = bool(request.continue_final_message)
        generates = not continues if request.add_generation_prompt is None else request.add_generation_prompt
        if continues and generates:
            raise ApiError(
                "'continue_final_message' goes with 'add_generation_prompt': false", param="continue_final_message"
            )
        try:
            text = self._template.render(
                plain_messages(request.messages or ()),
                add_generation_prompt=generates,
                continue_final_message=continues,
                variables=request.chat_template_kwargs,
            )
        except InputError as error:
            raise ApiError(str(error), param="messages", code="invalid_value") from None
        return self._tokenizer.encode(text)

    def of_text(self, prompt: str | Sequence[int | str], *, special: bool = True) -> list[int]:
        """Return a text's ids after the model's beginning token, or ids and texts as they are; raises ApiError."""
        tokenizer = self._tokenizer
        if isinstance(prompt, str):
            first = tokenizer.beginning_of_sequence if special and tokenizer.adds_beginning else None
            return tokenizer.encode(prompt) if first is None else [first, *tokenizer.encode(prompt)]
        if not all(isinstance(piece, str) or 0 <= piece < tokenizer.vocabulary for piece in prompt):
            raise ApiError(f"token ids lie between 0 and {tokenizer.vocabulary - 1}", param="prompt")
        pieces = [tokenizer.encode(piece) if isinstance(piece, str) else [piece] for piece in prompt]
        return [token for piece in pieces for token in piece]

    def room_after(self, prompt: Sequence[int]) -> int:
        """Return how many tokens an answer may have, at least 1; raises ApiError when the prompt leaves no room."""
        if not prompt:
            raise ApiError("the prompt is empty", param="prompt", code="invalid_value")
        if len(prompt) >= self._context_tokens:
            raise ApiError(
                f"This model's maximum context length is {self._context_tokens} tokens, of which the prompt would "
                f"take {len(prompt)}; shorten it",
                code="context_length_exceeded",
            )
        return self._context_tokens - len(prompt)


def limit_of(name: str, given: int | None) -> int | None:
    """Return a limit of tokens; raises ApiError for one below 1."""
    if given is not None and given < 1:
        raise ApiError(f"'{name}' must be at least 1", param=name, code="invalid_value")
    return given


def json_error(error: ApiError) -> dict[str, Any]:
    """Return OpenAI's error body."""
    kind = "invalid_request_error" if error.status < 500 else "server_error"
    return {"error": {"message": error.message, "type": kind, "param": error.param, "code": error.code}}
