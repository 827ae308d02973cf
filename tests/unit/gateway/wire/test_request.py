"""A request's body: checked as far as the gateway relies on it, and passed on otherwise untouched."""

import json
from typing import Any

import pytest

from secondsource.gateway.wire.request import (
    Endpoint,
    RequestError,
    asking_for_token_ids,
    encode,
    parse_request,
    upstream_fields,
)

CHAT: dict[str, Any] = {"model": "chat", "messages": [{"role": "user", "content": "Hi"}]}


def wrong(body: bytes | dict[str, Any], endpoint: Endpoint = Endpoint.CHAT) -> RequestError:
    with pytest.raises(RequestError) as caught:
        parse_request(endpoint, body if isinstance(body, bytes) else json.dumps(body).encode())
    return caught.value


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"[]", "must be a JSON object"),
        (b"5", "must be a JSON object"),
        (b'{"model":"chat"} x', "not valid JSON"),
        (b'{"\xff":1}', "not valid JSON"),
        (b'{"model":"chat","messages":["\xff"]}', "not valid JSON"),
        (b'{"model":"chat","stream":true,"messages":[1],"stream_options":{"\xff":1}}', "not valid JSON"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
    ],
)
def test_what_is_no_json_object(body: bytes, says: str) -> None:
    error = wrong(body)
    assert error.status == 400
    assert says in error.message


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": None}, "model"),
        ({"model": 5}, "model"),
        ({"stream": "yes"}, "stream"),
        ({"stream": True, "stream_options": 5}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options"),
        ({"n": 0}, "n"),
        ({"n": 1025}, "n"),
        ({"n": 1.5}, "n"),
        ({"n": "2"}, "n"),
        ({"messages": []}, "messages"),
        ({"messages": "Hi"}, "messages"),
        ({"messages": None}, "messages"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, Any], param: str) -> None:
    error = wrong(CHAT | change)
    assert (error.status, error.param) == (400, param)


@pytest.mark.parametrize("endpoint", [Endpoint.COMPLETIONS, Endpoint.EMBEDDINGS, Endpoint.IMAGES])
def test_every_endpoint_needs_its_own(endpoint: Endpoint) -> None:
    assert wrong({"model": "chat"}, endpoint).code == "missing_required_parameter"


def test_everything_else_is_passed_on_to_the_letter() -> None:
    body = json.dumps(CHAT | {"temperature": 0.10, "x_vendor": {"b": [1, None], "a": "é"}, "seed": 10**30}).encode()
    asked = parse_request(Endpoint.CHAT, body)
    sent = json.loads(encode(upstream_fields(asked, "their-name")))
    assert sent == json.loads(body) | {"model": "their-name"}
    assert b"0.1" in encode(upstream_fields(asked, "x"))


def test_usage_is_always_asked_of_a_stream_and_other_options_kept() -> None:
    asked = parse_request(Endpoint.CHAT, json.dumps(CHAT | {"stream": True, "stream_options": {"x": 1}}).encode())
    assert not asked.include_usage
    assert json.loads(encode(upstream_fields(asked, "m")))["stream_options"] == {"x": 1, "include_usage": True}


@pytest.mark.parametrize(
    ("prompt", "count", "choices"),
    [("a", 1, 1), ("a", 3, 3), (["a", "b"], 2, 4), ([1, 2, 3], 1, 1), ([[1], [2]], 1, 2), ([], 1, 1)],
)
def test_how_many_choices_the_answer_will_have(prompt: Any, count: int, choices: int) -> None:
    body = {"model": "chat", "prompt": prompt, "n": count}
    assert parse_request(Endpoint.COMPLETIONS, json.dumps(body).encode()).choices == choices


@pytest.mark.parametrize(
    ("value", "says"), [(None, False), (False, False), ("", False), ([], False), ([1], True), (0, True)]
)
def test_a_default_that_is_sent_asks_for_nothing(value: Any, says: bool) -> None:
    asked = parse_request(Endpoint.CHAT, json.dumps(CHAT | {"tools": value}).encode())
    assert asked.says("tools") is says
    assert not asked.says("absent")


@pytest.mark.parametrize(
    ("engine", "own", "asks"),
    [
        ("vllm", {}, {"return_token_ids": True}),
        ("vllm", {"return_token_ids": True}, None),
        ("llamacpp", {}, {"logprobs": True, "top_logprobs": 1}),
        ("llamacpp", {"logprobs": True}, None),
        ("sglang", {}, None),
        ("", {}, None),
    ],
)
def test_token_ids_are_asked_for_unless_the_client_did(
    engine: str, own: dict[str, Any], asks: dict[str, Any] | None
) -> None:
    asked = parse_request(Endpoint.CHAT, json.dumps(CHAT | {"stream": True} | own).encode())
    fields = upstream_fields(asked, "m")
    before = json.loads(encode(fields))
    assert asking_for_token_ids(fields, Endpoint.CHAT, engine) is (asks is not None)
    assert json.loads(encode(fields)) == before | (asks or {})
