"""What a client may and may not be given: the judgements that every test of failover shares."""

from typing import Any

import pytest

from tests.faults import language_model as lm
from tests.faults.raw_client import End, Received

STREAM: dict[str, Any] = {"stream": True}
STREAM_USAGE: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}


def assert_whole(received: Received, body: dict[str, Any]) -> None:
    """The client has the undisturbed answer, to the byte, as one well-formed answer."""
    assert received.status == 200, received.body
    assert received.error is None, received.error
    assert received.end is End.WHOLE
    for index in range(body.get("n") or 1):
        assert_same(received.text(index), lm.expected_answer(body, index))
        assert len(received.finish_reasons(index)) == 1, received.finish_reasons(index)
        assert received.finish_reasons(index) == [expected_finish_reason(body, index)]
    if body.get("stream"):
        assert_one_stream(received, body)
    assert_marked(received)


def assert_same(text: str, expected: str) -> None:
    """The text is the expected one; a failure shows where they part."""
    if text != expected:
        at = next((at for at, pair in enumerate(zip(text, expected, strict=False)) if pair[0] != pair[1]), None)
        at = min(len(text), len(expected)) if at is None else at
        near = slice(max(at - 20, 0), at + 40)
        pytest.fail(f"after {at} characters of {len(expected)}: came {text[near]!r}, expected {expected[near]!r}")


def expected_finish_reason(body: dict[str, Any], index: int = 0) -> str:
    """Return how the undisturbed answer ends."""
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    unlimited = {key: value for key, value in body.items() if key not in {"max_tokens", "max_completion_tokens"}}
    if limit is not None and len(lm.expected_ids(unlimited, index)) > limit:
        return "length"
    return "tool_calls" if lm.mode_of(body) == lm.TOOL_MODE and "messages" in body else "stop"


def assert_one_stream(received: Received, body: dict[str, Any]) -> None:
    """What came is one answer: one id, one role, [DONE] once and last, and nothing that was not asked for."""
    assert received.done
    assert sum(event.data == "[DONE]" for event in received.events) == 1
    assert len({chunk["id"] for chunk in received.chunks}) == 1, "an answer has one id"
    assert len({chunk["object"] for chunk in received.chunks}) == 1
    for index in range(body.get("n") or 1):
        roles = [choice for choice in received.choices(index) if (choice.get("delta") or {}).get("role")]
        assert len(roles) == (1 if "messages" in body else 0), "the role is said once, at the beginning"
    asked = (body.get("stream_options") or {}).get("include_usage", False)
    usages = [chunk for chunk in received.chunks if chunk.get("usage")]
    assert len(usages) == (1 if asked else 0), "usage comes once if it was asked for, and else not"
    empty = [chunk for chunk in received.chunks if not chunk["choices"]]
    assert len(empty) == len(usages)
    for chunk in received.chunks:
        assert "prompt_token_ids" not in chunk
        for choice in chunk["choices"]:
            assert body.get("return_token_ids") or "token_ids" not in choice
            assert body.get("logprobs") or not choice.get("logprobs"), "log-probabilities nobody asked for"


def assert_broken_openly(received: Received, body: dict[str, Any]) -> None:
    """The answer is not whole and says so: a status, or an error event and no [DONE]; what came is a prefix."""
    assert not received.looks_whole
    assert not any(event.data == "[DONE]" for event in received.events)
    error = received.error
    assert error is not None, "an answer that is not whole says so"
    assert error.keys() >= {"message", "type", "param", "code"}
    assert error["message"]
    if received.status == 200:
        assert lm.expected_answer(body).startswith(received.text())
        assert not received.finish_reasons()
    else:
        assert received.status in {429, 500, 502, 503, 504}
        assert received.status not in {429, 503} or int(received.headers["retry-after"]) >= 1
    assert_marked(received)


def assert_marked(received: Received) -> None:
    """Every answer has a request id; every made one says where it was made."""
    assert received.headers["x-request-id"]
    if received.status == 200:
        for name in ("pool", "supplier", "chip", "attempts"):
            assert received.headers[f"x-secondsource-{name}"]


def assert_usage_adds_up(received: Received, body: dict[str, Any]) -> None:
    """Usage is that of one undisturbed answer, however many replicas made it."""
    usage = received.usage
    assert usage is not None
    prompt = lm.apply_template(body["messages"], mode=lm.mode_of(body)) if "messages" in body else body["prompt"]
    assert usage["prompt_tokens"] == len(lm.tokenize(prompt.encode()))
    assert usage["completion_tokens"] == len(lm.expected_ids(body))
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
