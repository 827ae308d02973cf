"""What a replica itself checks of a request before it works on it, as real engines do: a 400, never a broken line."""

import json
from typing import Annotated, Any

import msgspec

Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000_000)]
Choices = Annotated[int, msgspec.Meta(ge=1, le=128)]
Token = Annotated[int, msgspec.Meta(ge=0, le=255)]


class _Part(msgspec.Struct):
    text: str = ""


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Part] | None = None


class _Common(msgspec.Struct):
    n: Choices | None = None
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None
    logprobs: bool | int | None = None


class _Chat(_Common):
    messages: Annotated[list[_Message], msgspec.Meta(min_length=1)] = msgspec.field(default_factory=list)


class _Completion(_Common):
    prompt: str | list[Any] = ""


class _Embedding(msgspec.Struct):
    input: str | list[Any]


class _Image(msgspec.Struct):
    prompt: str
    n: Choices | None = None


KINDS = {"/v1/chat/completions": _Chat, "/v1/completions": _Completion, "/v1/embeddings": _Embedding}


def malformed(path: str, body: Any) -> str | None:
    """Return why a request for work is no such thing, or None."""
    try:
        json.dumps(body, ensure_ascii=False).encode()
        msgspec.convert(body, KINDS.get(path, _Image))
    except (UnicodeEncodeError, RecursionError, msgspec.ValidationError) as error:
        return f"malformed request: {str(error)[:200]}"
    return None
