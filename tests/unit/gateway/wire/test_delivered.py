"""What is kept of an answer, and what the engines' evidence says of its token ids."""

import json

import pytest

from secondsource.gateway.wire.delivered import Delivered, Piece, token_ids, tokens_made
from secondsource.gateway.wire.event_shape import RawTexts
from secondsource.gateway.wire.events import parse_chunk
from secondsource.gateway.wire.relay import Relay
from tests.streams import ask, chunk, says, stream

LIMIT = 1 << 20


def with_ids(text: str, ids: list[int]) -> bytes:
    return chunk([{"index": 0, "delta": {"content": text}, "finish_reason": None, "token_ids": ids}])


def relay_over(delivered: Delivered) -> Relay:
    return Relay(ask(), delivered, event_limit=LIMIT, strip_ids=True, splice=None)


def llamacpp(identity: int, text: bytes) -> bytes:
    top = [{"id": identity, "bytes": list(text)}]
    return json.dumps({"content": [{"id": identity, "top_logprobs": top}]}).encode()


@pytest.mark.parametrize(
    ("piece", "ids"),
    [
        (("ab", b"[5]"), [5]),
        (("ab", b"[5,6]"), [5, 6]),
        (("é", b"[5][6,7]"), [5, 6, 7]),  # ids that came before their text
        (("", b"[]"), []),
        (("ab", llamacpp(7, b"ab")), [7]),
        (("é", llamacpp(7, b"\xa9")), None),  # the last of several tokens
        (("ab", b""), None),
        (("ab", b"{"), None),
        (("ab", b'{"content":[]}'), None),
        (("ab", b'{"content":null}'), None),
        (("ab", b'{"content":[{"id":null}]}'), None),
        (("ab", b"[null]"), None),
    ],
)
def test_ids_of_a_piece(piece: Piece, ids: list[int] | None) -> None:
    assert token_ids(piece) == ids


def test_ids_run_ahead_of_their_text() -> None:
    delivered = Delivered(LIMIT)
    relay = relay_over(delivered)
    relay.feed(stream(with_ids("", [1]), with_ids("é", [2]), with_ids("", [3]), with_ids("ü", [4]), done=False))
    assert [token_ids(piece) for piece in delivered.choices[0].pieces] == [[1, 2], [3, 4]]
    assert tokens_made(delivered) == 4


@pytest.mark.parametrize("first", ["", "a"])
def test_ids_whose_text_never_came_are_forgotten_by_the_next_attempt(first: str) -> None:
    delivered = Delivered(LIMIT)
    relay_over(delivered).feed(stream(with_ids(first, [1]), with_ids("", [2]), done=False))
    relay_over(delivered).feed(stream(with_ids("é", [8, 9]), done=False))
    assert token_ids(delivered.choices[0].pieces[-1]) == [8, 9]


def test_the_first_event_that_leaves_names_the_answer() -> None:
    delivered = Delivered(LIMIT)
    delivered.add(parse_chunk(says("a")), {})
    delivered.add(parse_chunk(chunk([], id="other", created=9)), {})
    assert (delivered.id, delivered.object, delivered.created) == ("one", "chat.completion.chunk", 7)


def test_tool_calls_are_put_together() -> None:
    delivered = Delivered(LIMIT)
    for call in (
        {"index": 0, "id": "x", "function": {"name": "f", "arguments": ""}},
        {"index": 0, "function": {"arguments": "{}"}},
        {"index": 1, "id": "y", "function": None},
    ):
        delivered.add(parse_chunk(says(tool_calls=[call])), {})
    [first, second] = delivered.choices[0].tool_calls.values()
    assert (first.id, first.name, first.arguments) == ("x", "f", "{}")
    assert (second.id, second.name, second.arguments) == ("y", "", "")


def test_what_is_kept_is_bounded_whatever_it_is() -> None:
    for delta in ({"content": "x" * 50}, {"reasoning": "x" * 50}, {"refusal": "x" * 50}):
        delivered = Delivered(1000)
        for _ in range(100):
            delivered.add(parse_chunk(says(**delta)), {0: b"[1]"})
        assert delivered.untold
        assert delivered.kept <= 1200
        assert delivered.tokens == 100


@pytest.mark.parametrize("limit", [LIMIT, 300])
def test_texts_that_left_unseen_are_kept_as_if_each_had_been_added(limit: int) -> None:
    together, singly = Delivered(limit), Delivered(limit)
    for delivered in (together, singly):
        delivered.add(parse_chunk(says("a")), {})
    together.add_texts(0, RawTexts(b"b\0cd\0e\0", 3))
    together.add_texts(0, RawTexts(rb"f" + b"\0" + rb"\u00e4" + b"\0", 2))
    for text in ("b", "cd", "e", "f", "\u00e4"):
        singly.add(parse_chunk(says(text)), {})
    assert together.tokens == singly.tokens == 6
    assert together.untold is singly.untold is (limit == 300)
    assert together.choices[0].pieces == singly.choices[0].pieces
