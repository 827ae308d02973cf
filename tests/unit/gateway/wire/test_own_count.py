import json
from typing import Any

import pytest

from secondsource.gateway.wire import own_count
from secondsource.gateway.wire.delivered import Delivered
from secondsource.gateway.wire.events import parse_chunk
from secondsource.policy.accounting import Usage


def delivered(*deltas: dict[str, Any]) -> Delivered:
    sent = Delivered(1 << 20)
    for delta in deltas:
        sent.add(parse_chunk(json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode()), {})
    return sent


def whole(message: dict[str, Any]) -> bytes:
    return json.dumps([{"index": 0, "message": message, "finish_reason": "stop"}]).encode()


TEN_WORDS = [{"content": " word"}] * 10


@pytest.mark.parametrize(
    ("usage", "deltas", "events", "expected"),
    [
        (None, TEN_WORDS, 10, 10),  # left out
        (Usage(5, 0, 10), TEN_WORDS, 10, None),
        (Usage(5, 0, 12), TEN_WORDS, 10, None),  # a character of several tokens is one event
        (Usage(5, 0, 7), TEN_WORDS, 10, 10),  # fewer than came
        (Usage(5, 0, 100), TEN_WORDS, 10, 10),  # more than there are bytes
        (Usage(5, 0, 100, 60), TEN_WORDS, 10, None),  # 60 of them are reasoning that is not shown
        (Usage(5, 0, 100), [{"content": " word" * 100}], 1, None),  # an engine that sends its answer in one event
        (Usage(5, 0, 900), [{"content": " word" * 100}], 1, 1),
        (Usage(5, 0, 100), [{"reasoning_content": " word" * 100}], 1, None),
        (Usage(5, 0, 100), [{"tool_calls": [{"index": 0, "function": {"arguments": "a" * 100}}]}], 1, None),
        (Usage(5, 0, 100), [{"function_call": {"name": "f"}}], 1, None),  # not kept, so not judged
        (Usage(5, 0, 100), [{"role": "assistant"}], 0, None),  # nothing that we know how to count
    ],
)
def test_of_stream(usage: Usage | None, deltas: list[dict[str, Any]], events: int, expected: int | None) -> None:
    assert own_count.of_stream(usage, events, delivered(*deltas)) == expected


def test_what_was_shown_before_is_not_this_attempts() -> None:
    sent = delivered(*TEN_WORDS)
    before = own_count.streamed_bytes(sent)
    assert before == own_count.Shown(50, 1)
    sent.add(parse_chunk(b'{"choices": [{"index": 0, "delta": {"content": " word"}}]}'), {})
    assert own_count.of_stream(Usage(5, 0, 40), 1, sent, before) == 1
    assert own_count.of_stream(Usage(5, 0, 40), 1, sent) is None


@pytest.mark.parametrize(
    ("usage", "message", "expected"),
    [
        (None, {"content": "x" * 41}, 11),  # a token for each four bytes, rounded up
        (None, {"content": None, "tool_calls": []}, 1),
        (Usage(5, 0, 8), {"content": "x" * 40}, None),
        (Usage(5, 0, 80), {"content": "x" * 40}, 10),
        (Usage(5, 0, 80, 60), {"content": "x" * 40}, None),
        (Usage(5, 0, 80), {"content": "é" * 40}, None),  # bytes, and not characters
        (Usage(5, 0, 80), {"reasoning": "x" * 40, "content": "x" * 40}, None),
        (Usage(5, 0, 80), {"content": None, "audio": {"data": "…"}}, None),
        (Usage(5, 0, 80), {"content": ["an", "unknown", "shape"]}, None),
    ],
)
def test_of_whole(usage: Usage | None, message: dict[str, Any], expected: int | None) -> None:
    assert own_count.of_whole(usage, 400, whole(message)) == expected


def test_what_has_no_choices_is_not_counted() -> None:
    assert own_count.of_whole(None, 400, b"") is None
    assert own_count.of_whole(Usage(5, 0, 80), 400, b"") is None
