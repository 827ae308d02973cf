"""A client's request body: parsed once, checked as far as the gateway relies on it, passed on otherwise untouched."""

from enum import StrEnum
from typing import TypeVar

import msgspec

T = TypeVar("T")
Fields = dict[str, msgspec.Raw]


class Endpoint(StrEnum):
    """The paths that go to replicas."""

    CHAT = "/v1/chat/completions"
    COMPLETIONS = "/v1/completions"
    EMBEDDINGS = "/v1/embeddings"
    IMAGES = "/v1/images/generations"


PATHS = {endpoint: endpoint.value for endpoint in Endpoint}  # an enum's value is slow to ask for
PROMPTS = {  # the parameter that is answered, the bytes its JSON may begin with, and how to say that
    Endpoint.CHAT: ("messages", b"[", "an array of messages"),
    Endpoint.COMPLETIONS: ("prompt", b'"[', "a string or an array"),
    Endpoint.EMBEDDINGS: ("input", b'"[', "a string or an array"),
    Endpoint.IMAGES: ("prompt", b'"', "a string"),
}
ASKS_NOTHING = frozenset({b"", b"false", b'""', b"[]", b"{}"})
GENERATES_TEXT = frozenset({Endpoint.CHAT, Endpoint.COMPLETIONS})


class RequestError(Exception):
    """The client's request is wrong; the text is for the client."""

    def __init__(self, message: str, *, status: int = 400, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.param = param
        self.code = code


class Ask(msgspec.Struct, frozen=True):
    """A request as the gateway understands it; `fields` holds every parameter as the client wrote it."""

    endpoint: Endpoint
    fields: Fields
    model: str
    stream: bool
    include_usage: bool
    choices: int  # how many the answer will have
    body_length: int

    @property
    def path(self) -> str:
        """The path the request came for, and goes to."""
        return PATHS[self.endpoint]

    def raw(self, name: str) -> bytes:
        """Return a parameter's JSON text, or b"" when it is absent or null."""
        value = bytes(self.fields.get(name, b""))
        return b"" if value == b"null" else value

    def says(self, name: str) -> bool:
        """Return whether a parameter asks for anything: clients like to send what is the default anyway."""
        return self.raw(name) not in ASKS_NOTHING and not (name == "best_of" and self.raw(name) == b"1")


class _StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool | None = None


_fields = msgspec.json.Decoder(Fields)
_string = msgspec.json.Decoder(str)
_boolean = msgspec.json.Decoder(bool)
_count = msgspec.json.Decoder(int | float)
_stream_options = msgspec.json.Decoder(_StreamOptions)


def parse_request(endpoint: Endpoint, body: bytes, image_model: str | None = None) -> Ask:
    """Return the request; raises RequestError that says which parameter is wrong and what was expected.

    `image_model` is meant by an image request that names no model.
    """
    fields = _parse_fields(body)
    model = _typed(fields, "model", _string, "a string")
    if model is None and endpoint is Endpoint.IMAGES:
        model = image_model
    if model is None:
        raise RequestError("you must provide a model parameter", param="model", code="missing_required_parameter")
    stream = _typed(fields, "stream", _boolean, "true or false") or False
    if endpoint is Endpoint.EMBEDDINGS:
        stream = False  # the replica decides what it means there
    expected = "an object such as {'include_usage': true}"
    options = _typed(fields, "stream_options", _stream_options, expected) if stream else None
    count = _typed(fields, "n", _count, "a whole number")
    if count is not None and not (1 <= count <= 1024 and count == int(count)):
        raise RequestError("'n' must be a whole number between 1 and 1024", param="n", code="invalid_value")
    _check_prompt(endpoint, fields)
    prompts = _prompts(fields) if endpoint is Endpoint.COMPLETIONS else 1
    return Ask(
        endpoint, fields, model, stream, bool(options and options.include_usage), int(count or 1) * prompts, len(body)
    )


def _parse_fields(body: bytes) -> Fields:
    try:
        if not body.isascii():
            body.decode()  # msgspec looks into no value that nobody asks for; a replica would
        return _fields.decode(body)
    except msgspec.ValidationError:
        raise RequestError("the request body must be a JSON object") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RequestError(f"the request body is not valid JSON: {error}") from None
    except RecursionError:
        raise RequestError("the request body is nested too deeply") from None


def _typed(fields: Fields, name: str, decoder: msgspec.json.Decoder[T], expected: str) -> T | None:
    raw = fields.get(name)
    if raw is None or bytes(raw) == b"null":
        return None
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise RequestError(f"invalid type for '{name}': expected {expected}", param=name, code="invalid_type") from None


def _check_prompt(endpoint: Endpoint, fields: Fields) -> None:
    name, first_bytes, expected = PROMPTS[endpoint]
    raw = bytes(fields.get(name, b""))
    if not raw:
        raise RequestError(f"you must provide '{name}': {expected}", param=name, code="missing_required_parameter")
    if raw[0] not in first_bytes:
        raise RequestError(f"invalid type for '{name}': expected {expected}", param=name, code="invalid_type")
    if endpoint is Endpoint.CHAT and not raw[1:-1].strip():
        raise RequestError("'messages' must hold at least one message", param=name, code="empty_array")


def _prompts(fields: Fields) -> int:
    """Return how many prompts a completion has: an array of strings or of token arrays is several."""
    raw = bytes(fields["prompt"])
    if raw[:1] != b"[":
        return 1
    items = msgspec.json.decode(raw, type=list[msgspec.Raw])
    return max(1, len(items)) if items and bytes(items[0])[:1] in (b'"', b"[") else 1


def encode(fields: Fields) -> bytes:
    """Return a body from raw parameters."""
    return msgspec.json.encode(fields)


_TRUE = msgspec.Raw(b"true")
_ONE = msgspec.Raw(b"1")


def with_usage(stream_options: bytes) -> msgspec.Raw:
    """Return `stream_options` with usage asked for and whatever else the client put there."""
    if not stream_options:
        return msgspec.Raw(b'{"include_usage":true}')
    options = msgspec.json.decode(stream_options, type=Fields)
    options["include_usage"] = _TRUE
    return msgspec.Raw(encode(options))


def upstream_fields(ask: Ask, upstream_model: str) -> Fields:
    """Return the parameters as the replica should get them: its own model name, and usage always asked for."""
    fields = dict(ask.fields)
    fields["model"] = msgspec.Raw(msgspec.json.encode(upstream_model))
    if ask.stream and ask.endpoint in GENERATES_TEXT:
        fields["stream_options"] = with_usage(ask.raw("stream_options"))
    return fields


def asking_for_token_ids(fields: Fields, endpoint: Endpoint, engine: str) -> bool:
    """Ask for token ids in the engine's own way, for exact continuation; true when the fields were changed.

    vLLM has `return_token_ids`. llama.cpp's server gives ids only with log-probabilities. Either is left alone when
    the client asked for it itself, since it would be taken out of the answer again.
    """
    if engine == "vllm" and "return_token_ids" not in fields:
        fields["return_token_ids"] = _TRUE
        return True
    if engine != "llamacpp" or "logprobs" in fields:
        return False
    if endpoint is Endpoint.CHAT:
        fields["logprobs"] = _TRUE
        fields["top_logprobs"] = _ONE
    else:
        fields["logprobs"] = _ONE
    return True
