"""Streamed images: passed on event by event, and a broken stream told from a whole one."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondsource.core.records import Outcome
from secondsource.gateway.wire.image_events import (
    COMPLETED,
    PARTIAL,
    ImageRelay,
    as_image_events,
    as_whole_answer,
    parse_image_usage,
)
from secondsource.policy.accounting import Usage


def event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, 'b64_json': 'AAAA', **fields})}\n\n".encode()


USAGE = {"input_tokens": 5, "output_tokens": 7, "input_tokens_details": {"cached_tokens": 2}}
STREAM = event(PARTIAL, partial_image_index=0) + event(PARTIAL, partial_image_index=1) + event(COMPLETED, usage=USAGE)


def relayed(data: bytes, images: int = 1, limit: int = 10_000) -> tuple[ImageRelay, bytes]:
    relay = ImageRelay(images, limit)
    out = relay.feed(data)
    return relay, out + (relay.end() if relay.failure is None else b"")


@given(st.lists(st.integers(1, 40), max_size=30))
def test_every_chunking_gives_the_same(sizes: list[int]) -> None:
    relay, out, at = ImageRelay(1, 10_000), b"", 0
    for size in sizes:
        out += relay.feed(STREAM[at : at + size])
        at += size
    out += relay.feed(STREAM[at:]) + relay.end()
    assert (out, relay.done, relay.failure) == (STREAM, True, None)
    assert relay.usage == Usage(5, 2, 7)


def test_it_is_complete_when_every_image_has_come() -> None:
    relay = ImageRelay(2, 10_000)
    relay.feed(event(COMPLETED))
    assert not relay.complete
    relay.feed(event(COMPLETED))
    assert relay.complete
    assert not relay.done
    assert relay.close() == b""
    assert relay.done


def test_comments_and_done_are_no_images() -> None:
    relay, out = relayed(b": waiting\n\n" + STREAM + b"data: [DONE]\n\n")
    assert relay.done
    assert out == STREAM + b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    ("data", "outcome"),
    [
        (b"", Outcome.CUT),
        (event(PARTIAL), Outcome.CUT),
        (event(PARTIAL) + b"data: [DONE]\n\n", Outcome.CUT),
        (STREAM[:-20], Outcome.GARBLED),
        (b"data: {]\n\n", Outcome.GARBLED),
        (b'data: "text"\n\n', Outcome.GARBLED),
        (event(PARTIAL) + b'data: {"error":{"message":"no memory"}}\n\n', Outcome.ERROR_EVENT),
        (event("error", message="no"), Outcome.ERROR_EVENT),
        (event(PARTIAL) * 200, Outcome.GARBLED),
        (b"data: " + b"a" * 20_000, Outcome.GARBLED),
    ],
)
def test_what_breaks_a_stream(data: bytes, outcome: Outcome) -> None:
    relay, _ = relayed(data)
    assert (relay.failure, relay.done) == (outcome, False)


def test_an_engine_that_speaks_otherwise_is_passed_on() -> None:
    data = b'data: {"step":1}\n\ndata: {"image":"AAAA"}\n\n'
    relay, out = relayed(data)
    assert (relay.failure, relay.done, out) == (None, True, data)


def test_a_whole_answer_as_events_and_back() -> None:
    body = {"created": 5, "size": "1x1", "data": [{"b64_json": "A"}, {"b64_json": "B"}], "usage": USAGE}
    events = as_image_events(json.dumps(body).encode())
    relay, _ = relayed(events, images=2)
    assert relay.complete
    assert relay.usage == Usage(5, 2, 7)
    assert json.loads(as_whole_answer(events)) == body


def test_an_answer_without_images_is_no_stream() -> None:
    for body in (b"{}", b"[]", b'{"data":5}'):
        with pytest.raises(msgspec.DecodeError):
            as_image_events(body)


def test_partial_images_are_no_part_of_the_answer() -> None:
    whole = json.loads(as_whole_answer(STREAM))
    assert [image["b64_json"] for image in whole["data"]] == ["AAAA"]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"{}",
        b'{"input_tokens":-1,"output_tokens":5}',
        b'{"input_tokens":1e99}',
        b'{"input_tokens":2000000000}',
        b'{"input_tokens":1,"input_tokens_details":{"cached_tokens":2}}',
    ],
)
def test_a_usage_that_cannot_be_true_is_none(raw: bytes) -> None:
    assert parse_image_usage(raw) is None
