"""How a cut answer is asked for again: by token ids, by text prefill, or made afresh. Pure; bodies only.

Engines differ. vLLM and SGLang continue a trailing assistant turn when `continue_final_message` is set and
`add_generation_prompt` is off; llama.cpp's server continues it by itself (older ones repeat it in the answer);
a hosted API may refuse it. Exact continuation gives the templated prompt and the ids made so far to
`/v1/completions`: llama.cpp takes a prompt of mixed text and ids and renders the template at `/apply-template`,
vLLM takes ids alone and gives the prompt's at `/tokenize`.
"""

from enum import Enum, auto

import msgspec

from secondsource.core.fleet import Continuation
from secondsource.core.grammars import GRAMMARS
from secondsource.gateway.wire.delivered import Delivered, token_ids, tokens_made
from secondsource.gateway.wire.request import Ask, Endpoint, Fields, encode, with_usage

Prompt = list[int | str]

DEFAULT_COMPLETION_TOKENS = 16  # OpenAI's default for a text completion
LIMITS = ("max_completion_tokens", "max_tokens")

# A grammar holds from the answer's first character: an engine that is given half the answer starts it anew.
NOT_CONTINUED = (*GRAMMARS, "audio", "functions", "echo", "suffix", "best_of")
CHAT_ONLY = frozenset(
    {
        "messages",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "response_format",
        "max_completion_tokens",
        "chat_template",
        "chat_template_kwargs",
        "add_generation_prompt",
        "continue_final_message",
        "reasoning_effort",
        "reasoning_format",
        "modalities",
        "return_token_ids",
        "top_logprobs",
        "logprobs",
    }
)
TEMPLATE_FIELDS = (
    "prompt",
    "messages",
    "tools",
    "tool_choice",
    "chat_template_kwargs",
    "reasoning_format",
    "add_generation_prompt",
)


class Method(Enum):
    """How an answer goes on at a replica."""

    TOKENS = auto()
    PREFILL = auto()
    REMAKE = auto()


def continuable(ask: Ask, delivered: Delivered) -> bool:
    """Return whether the request allows its answer to be continued from where it was cut."""
    if ask.choices != 1 or delivered.untold or any(ask.says(name) for name in NOT_CONTINUED):
        return False
    if ask.raw("response_format") and not _is_plain_text(ask.raw("response_format")):
        return False
    if ask.endpoint is Endpoint.COMPLETIONS and ask.raw("prompt")[:1] != b'"':
        return False
    so_far = delivered.choices.get(0)
    if so_far is None or not so_far.pieces:
        return False
    return not (so_far.reasoning or so_far.refusal or so_far.tool_calls or so_far.other)


def method_at(
    ask: Ask, delivered: Delivered, continuation: Continuation, engine: str, context_tokens: int | None
) -> Method:
    """Return the best way of continuing at a pool; the request must be continuable.

    A turn that the client itself began is made afresh: engines differ in whether they continue it, close it, or
    repeat it. vLLM's text completions need a limit, so without the client's own its context must be known; and
    under a stop string its text lags behind its ids.
    """
    if continuation is Continuation.NONE or _client_began(ask):
        return Method.REMAKE
    if continuation is Continuation.PREFILL or ask.says("tools") or ask.says("logprobs"):
        return _prefill(ask, delivered)
    if engine == "llamacpp":
        return Method.TOKENS
    bounded = context_tokens is not None or tokens_left(ask, 0, engine) is not None
    exact = all(token_ids(piece) is not None for piece in delivered.choices[0].pieces)
    if engine == "vllm" and bounded and exact and not ask.raw("stop"):
        return Method.TOKENS
    return _prefill(ask, delivered)


def _prefill(ask: Ask, delivered: Delivered) -> Method:
    # Templates strip white space, and an empty turn is refused: that little is sooner made afresh.
    blank = ask.endpoint is Endpoint.CHAT and not delivered.choices[0].text.strip()
    return Method.REMAKE if blank else Method.PREFILL


class _Message(msgspec.Struct):
    role: str | None = None


def _client_began(ask: Ask) -> bool:
    raw = ask.raw("messages")
    if not raw:
        return False
    try:
        return msgspec.json.decode(raw, type=list[_Message])[-1].role == "assistant"
    except (msgspec.DecodeError, IndexError):
        return True  # of a shape we do not know: not to be added to


def prefill_fields(ask: Ask, delivered: Delivered, upstream_model: str, engine: str) -> Fields:
    """Return the request with the answer so far as the beginning of the assistant's turn.

    Trailing white space is left off: most templates strip it, and tokens begin with it more often than end so.
    """
    text = delivered.choices[0].text.rstrip()
    fields = dict(ask.fields)
    fields["model"] = _json(upstream_model)
    fields["stream_options"] = with_usage(ask.raw("stream_options"))
    left = tokens_left(ask, tokens_made(delivered), engine)
    if left is not None:
        for name in [name for name in LIMITS if _whole_number(ask.raw(name)) is not None] or ["max_tokens"]:
            fields[name] = _json(max(left, 1))
    _lower_minimum(fields, ask, tokens_made(delivered))
    if ask.endpoint is Endpoint.COMPLETIONS:
        fields["prompt"] = _json(msgspec.json.decode(ask.raw("prompt"), type=str) + delivered.choices[0].text)
        return fields
    messages = msgspec.json.decode(ask.raw("messages"), type=list[msgspec.Raw])
    turn = _json({"role": "assistant", "content": text})
    fields["messages"] = msgspec.Raw(msgspec.json.encode([*messages, turn]))
    if engine != "llamacpp":
        fields["continue_final_message"] = msgspec.Raw(b"true")
        fields["add_generation_prompt"] = msgspec.Raw(b"false")
    return fields


def template_request(ask: Ask, upstream_model: str, engine: str) -> tuple[str, bytes]:
    """Return path and body of the call that renders the prompt at the replica."""
    fields = {name: ask.fields[name] for name in TEMPLATE_FIELDS if name in ask.fields}
    fields["model"] = _json(upstream_model)
    return ("/tokenize" if engine == "vllm" else "/apply-template"), encode(fields)


class _Template(msgspec.Struct):
    prompt: str | None = None
    tokens: list[int] | None = None


def parse_template(body: bytes) -> Prompt | None:
    """Return the rendered prompt, or None when the answer does not hold one."""
    try:
        template = msgspec.json.decode(body, type=_Template)
    except msgspec.DecodeError:
        return None
    if template.tokens:
        return list(template.tokens)
    return [template.prompt] if template.prompt else None


def pieces_made(delivered: Delivered) -> Prompt:
    """Return the answer so far as token ids, and as text where the engine's evidence does not settle them."""
    made: Prompt = []
    for piece in delivered.choices[0].pieces:
        ids = token_ids(piece)
        made.extend([piece[0]] if ids is None else ids)
    return made


def tokenize_request(made: Prompt) -> tuple[str, bytes] | None:
    """Return the call that turns the remaining text into ids (llama.cpp), or None when there is none left."""
    if all(isinstance(piece, int) for piece in made):
        return None
    return "/tokenize", msgspec.json.encode({"content": made, "add_special": False, "parse_special": False})


def tokens_fields(
    ask: Ask, upstream_model: str, prompt: Prompt, made: Prompt, *, engine: str, context_tokens: int | None
) -> Fields:
    """Return a text completion that goes on exactly after `made`."""
    fields = {name: value for name, value in ask.fields.items() if name not in CHAT_ONLY}
    fields["model"] = _json(upstream_model)
    fields["prompt"] = _json([*prompt, *made])
    fields["stream_options"] = with_usage(ask.raw("stream_options"))
    left = tokens_left(ask, len(made), engine)
    if left is not None:
        fields["max_tokens"] = _json(max(left, 1))
    elif context_tokens is not None and engine == "vllm":
        # A chat is bounded by its context alone, but vLLM ends a text completion after 16 tokens unless told.
        fields["max_tokens"] = _json(max(context_tokens - len(prompt) - len(made), 1))
    _lower_minimum(fields, ask, len(made))
    return fields


def tokens_left(ask: Ask, made: int, engine: str) -> int | None:
    """Return how many tokens the client's limit still allows after `made`, or None without a limit.

    A text completion without one ends after OpenAI's 16 tokens, save at llama.cpp's server, which knows no default.
    """
    limits = [limit for name in LIMITS if (limit := _whole_number(ask.raw(name))) is not None]
    if limits:
        return min(limits) - made
    has_default = ask.endpoint is Endpoint.COMPLETIONS and not any(map(ask.raw, LIMITS)) and engine != "llamacpp"
    return DEFAULT_COMPLETION_TOKENS - made if has_default else None


def _lower_minimum(fields: Fields, ask: Ask, made: int) -> None:
    minimum = _whole_number(ask.raw("min_tokens"))
    if minimum is not None:
        fields["min_tokens"] = _json(max(minimum - made, 0))


def _whole_number(raw: bytes) -> int | None:
    return int(raw) if raw.isdigit() and len(raw) < 20 else None  # what is longer no engine takes either


def _is_plain_text(raw: bytes) -> bool:
    try:
        return msgspec.json.decode(raw, type=dict[str, msgspec.Raw]).get("type") == msgspec.Raw(b'"text"')
    except msgspec.DecodeError:
        return False


def _json(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))
