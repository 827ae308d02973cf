"""Which answers can be continued where and how, and what is asked of the replica then."""

import json
from typing import Any

import msgspec
import pytest

from secondsource.core.fleet import Continuation
from secondsource.gateway.wire import continuation
from secondsource.gateway.wire.continuation import Method
from secondsource.gateway.wire.delivered import Delivered
from secondsource.gateway.wire.events import parse_chunk
from secondsource.gateway.wire.request import Ask, Endpoint, encode
from tests.streams import ask, says, writes


def delivered(*payloads: bytes, ids: bytes = b"") -> Delivered:
    so_far = Delivered(1 << 20)
    for payload in payloads:
        so_far.add(parse_chunk(payload), {0: ids})
    so_far.sent = True
    return so_far


def prefill(asked: Ask, so_far: Delivered, engine: str = "vllm") -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(encode(continuation.prefill_fields(asked, so_far, "theirs", engine)))
    return fields


SAID = delivered(says("Hel"), says("lo "))


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"tools": [{"type": "function"}]},
        {"response_format": {"type": "text"}},
        {"response_format": None},
        {"echo": False},
        {"suffix": ""},
        {"best_of": 1},
        {"functions": []},
    ],
)
def test_plain_text_can_be_continued(parameters: dict[str, Any]) -> None:
    assert continuation.continuable(ask(**parameters), SAID)


@pytest.mark.parametrize(
    "parameters",
    [
        {"n": 2},
        {"response_format": {"type": "json_object"}},
        {"response_format": "odd"},
        {"best_of": 2},
        {"functions": [{"name": "f"}]},
        *({name: "x"} for name in continuation.GRAMMARS),
    ],
)
def test_what_an_engine_would_begin_anew_cannot(parameters: dict[str, Any]) -> None:
    assert not continuation.continuable(ask(**parameters), SAID)


@pytest.mark.parametrize(
    "delta", [{"reasoning": "hm"}, {"reasoning_content": "hm"}, {"refusal": "no"}, {"tool_calls": [{"index": 0}]}]
)
def test_only_text_can_be_continued(delta: dict[str, Any]) -> None:
    assert not continuation.continuable(ask(), delivered(says("a"), says(**delta)))


def test_nothing_cannot_be_continued_nor_a_prompt_of_ids() -> None:
    assert not continuation.continuable(ask(), delivered())
    assert not continuation.continuable(ask(Endpoint.COMPLETIONS, prompt=[1, 2]), delivered(writes("a")))


@pytest.mark.parametrize(
    ("pool", "engine", "parameters", "method"),
    [
        (Continuation.NONE, "vllm", {}, Method.REMAKE),
        (Continuation.PREFILL, "llamacpp", {}, Method.PREFILL),
        (Continuation.TOKENS, "llamacpp", {}, Method.TOKENS),
        (Continuation.TOKENS, "llamacpp", {"tools": [{}]}, Method.PREFILL),
        (Continuation.TOKENS, "llamacpp", {"logprobs": False}, Method.TOKENS),
        (Continuation.TOKENS, "llamacpp", {"logprobs": True}, Method.PREFILL),
        (Continuation.TOKENS, "vllm", {"max_tokens": 9}, Method.PREFILL),  # no ids came
        (Continuation.TOKENS, "sglang", {}, Method.PREFILL),
        (Continuation.TOKENS, "llamacpp", {"messages": [{"role": "assistant", "content": "x"}]}, Method.REMAKE),
    ],
)
def test_the_best_method_at_a_pool(pool: Continuation, engine: str, parameters: dict[str, Any], method: Method) -> None:
    assert continuation.method_at(ask(**parameters), SAID, pool, engine, None) is method


@pytest.mark.parametrize(
    ("parameters", "context", "method"),
    [
        ({}, 4096, Method.TOKENS),
        ({"max_tokens": 9}, None, Method.TOKENS),
        ({}, None, Method.PREFILL),
        ({"stop": ["x"]}, 4096, Method.PREFILL),
    ],
)
def test_vllm_continues_by_ids_when_all_are_known(
    parameters: dict[str, Any], context: int | None, method: Method
) -> None:
    so_far = delivered(says("a"), ids=b"[5]")
    assert continuation.method_at(ask(**parameters), so_far, Continuation.TOKENS, "vllm", context) is method


def test_white_space_alone_is_made_afresh_and_not_given_as_an_empty_turn() -> None:
    blank = delivered(says(" \n"))
    assert continuation.method_at(ask(), blank, Continuation.PREFILL, "vllm", None) is Method.REMAKE
    assert continuation.method_at(ask(), blank, Continuation.TOKENS, "llamacpp", None) is Method.TOKENS
    text = ask(Endpoint.COMPLETIONS)
    assert continuation.method_at(text, delivered(writes(" ")), Continuation.PREFILL, "", None) is Method.PREFILL


def test_a_prefilled_turn() -> None:
    fields = prefill(ask(temperature=0), SAID)
    assert fields["messages"][-1] == {"role": "assistant", "content": "Hello"}
    assert (fields["model"], fields["temperature"]) == ("theirs", 0)
    assert (fields["continue_final_message"], fields["add_generation_prompt"]) == (True, False)
    assert "max_tokens" not in fields
    assert "continue_final_message" not in prefill(ask(), SAID, "llamacpp")


def test_a_prefilled_prompt() -> None:
    so_far = delivered(writes("upon "))
    fields = prefill(ask(Endpoint.COMPLETIONS, prompt="Once "), so_far)
    assert fields["prompt"] == "Once upon "
    assert fields["max_tokens"] == 15  # OpenAI's default for a text completion


@pytest.mark.parametrize(
    ("limits", "left"),
    [
        ({"max_tokens": 10}, {"max_tokens": 8}),
        ({"max_completion_tokens": 10}, {"max_completion_tokens": 8}),
        ({"max_tokens": 10, "max_completion_tokens": 5}, {"max_tokens": 3, "max_completion_tokens": 3}),
        ({"max_tokens": 1}, {"max_tokens": 1}),
        ({"max_tokens": 10, "min_tokens": 5}, {"max_tokens": 8, "min_tokens": 3}),
        ({"min_tokens": 1}, {"min_tokens": 0}),
    ],
)
def test_limits_are_lowered_by_what_was_made(limits: dict[str, int], left: dict[str, int]) -> None:
    fields = prefill(ask(**limits), SAID)
    assert {name: fields[name] for name in left} == left


@pytest.mark.parametrize(
    "odd", [b"1" * 5000, b"-1", b"2.5", b'"many"', b"null"], ids=["long", "negative", "half", "text", "null"]
)
def test_a_limit_that_is_none_is_left_to_the_engine(odd: bytes) -> None:
    asked = ask()
    asked.fields["max_tokens"] = asked.fields["min_tokens"] = msgspec.Raw(odd)
    assert continuation.tokens_left(asked, 3, "vllm") is None
    assert bytes(continuation.prefill_fields(asked, SAID, "theirs", "vllm")["min_tokens"]) == odd


def test_going_on_by_ids() -> None:
    so_far = delivered(says("a"), says("b"), ids=b"[5]")
    made = continuation.pieces_made(so_far)
    assert made == [5, 5]
    assert continuation.tokenize_request(made) is None
    fields = json.loads(
        encode(
            continuation.tokens_fields(
                ask(max_completion_tokens=10, tools=[], seed=1),
                "theirs",
                [1, 2],
                made,
                engine="vllm",
                context_tokens=64,
            )
        )
    )
    assert fields["prompt"] == [1, 2, 5, 5]
    assert (fields["max_tokens"], fields["seed"]) == (8, 1)
    assert not {"messages", "tools", "max_completion_tokens"} & fields.keys()


def test_text_without_ids_is_tokenized_at_the_replica() -> None:
    made = continuation.pieces_made(SAID)
    request = continuation.tokenize_request(made)
    assert request is not None
    assert json.loads(request[1])["content"] == ["Hel", "lo "]


@pytest.mark.parametrize(
    ("body", "prompt"),
    [
        (b'{"prompt":"<s>Hi"}', ["<s>Hi"]),
        (b'{"tokens":[1,2]}', [1, 2]),
        (b'{"count":2,"tokens":[1,2],"max_model_len":9}', [1, 2]),
        (b"{}", None),
        (b"[]", None),
        (b"<html>", None),
        (b'{"prompt":5}', None),
    ],
)
def test_a_rendered_prompt(body: bytes, prompt: list[int | str] | None) -> None:
    assert continuation.parse_template(body) == prompt
