"""However a stream is cut into pieces and its lines are ended, the same events come out."""

import json
import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from secondsource.gateway.wire.delivered import Delivered
from secondsource.gateway.wire.events import EventScanner, payload_of
from secondsource.gateway.wire.relay import Relay, without
from tests.streams import DONE, ask, counts, cuts, pieces_of, says, stream

LIMIT = 1 << 20
LINES = st.lists(
    st.sampled_from([b"data: {}", b"data:x", b": note", b"event: ping", b"data", b"id: 7", b"", b"data: [DONE]"]),
    max_size=12,
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


def scan(data: bytes, cut: list[int], limit: int = LIMIT) -> tuple[list[bytes], bytes, bool]:
    scanner = EventScanner(limit)
    events = [event for piece in pieces_of(data, cut) for event in scanner.feed(piece)]
    return events, scanner.rest(), scanner.too_long


@given(st.binary(max_size=200) | st.text(alphabet="d:a \r\n", max_size=80).map(str.encode), cuts())
def test_any_chunking_gives_the_same_events(data: bytes, cut: list[int]) -> None:
    assert scan(data, cut) == scan(data, [])
    assert scan(data, list(range(len(data)))) == scan(data, [])


@given(st.lists(st.tuples(LINES, ENDS), max_size=4), cuts())
def test_any_way_to_end_lines_gives_the_same_events(blocks: list[tuple[list[bytes], bytes]], cut: list[int]) -> None:
    mixed = b"".join(line + end for lines, end in blocks for line in [*lines, b""])
    # A line that ends in CR and an empty one that ends in LF look like one CRLF, to any reader.
    plain = mixed.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    assert scan(mixed + b"data: end\n\n", cut) == scan(plain + b"data: end\n\n", [])


@given(st.lists(st.integers(0, 40), max_size=6), cuts(), st.integers(1, 30), ENDS)
def test_an_event_over_the_limit_ends_the_stream_wherever_it_is_cut(
    lengths: list[int], cut: list[int], limit: int, end: bytes
) -> None:
    events = [b"x" * length for length in lengths if length]
    data = b"".join(event + end + end for event in events)
    expected: list[bytes] = []
    for event in events:
        if len(event) > limit:
            break
        expected.append(event)
    found, rest, too_long = scan(data, cut, limit)
    assert too_long is (len(expected) < len(events))
    assert found + [rest] * bool(rest) == expected


def test_a_stream_without_end_is_not_kept() -> None:
    scanner = EventScanner(1000)
    for _ in range(100):
        assert scanner.feed(b"x" * 100) == []
    assert scanner.too_long
    assert scanner.rest() == b""


@given(st.text(alphabet=' {}"abc\n', max_size=20), st.sampled_from(["data: ", "data:"]))
def test_the_payload_is_what_the_standard_says(text: str, field: str) -> None:
    event = "\n".join([": a comment", "event: chunk", *(field + line for line in text.split("\n")), "id: 1"])
    expected = "\n".join(line.removeprefix(" ") if field == "data:" else line for line in text.split("\n"))
    assert payload_of(event.encode()) == expected.encode()


SAID = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
STREAMS = st.builds(
    lambda words, comments, usage, done, end: (
        stream(*(says(word) for word in words), says("", finish="stop"), *([counts(3, 9)] * usage), done=done, end=end)
        if not comments
        else b": hello" + end + stream(says(role="assistant"), *(says(w) for w in words), done=False, end=end)
    ),
    st.lists(SAID, min_size=1, max_size=6),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from([b"\n\n", b"\r\n\r\n", b"\r\r"]),
)


def relayed(data: bytes, cut: list[int], *, usage: bool) -> tuple[bytes, Any, bool, Delivered]:
    asked = ask(stream_options={"include_usage": True}) if usage else ask()
    delivered = Delivered(LIMIT)
    relay = Relay(asked, delivered, event_limit=LIMIT, strip_ids=False, splice=None)
    out = b""
    for piece in pieces_of(data, cut):
        if relay.done or relay.failure is not None:
            break
        out += relay.feed(piece)
    if not relay.done and relay.failure is None:
        out += relay.end()
    return out, relay.failure, relay.done, delivered


@given(STREAMS, cuts(), st.booleans(), st.integers(0, 400))
def test_any_chunking_gives_the_same_answer(data: bytes, cut: list[int], usage: bool, lost: int) -> None:
    data = data[: len(data) - lost]
    out, failure, done, delivered = relayed(data, cut, usage=usage)
    whole, failure_of_whole, done_of_whole, delivered_of_whole = relayed(data, [], usage=usage)
    assert (out, failure, done) == (whole, failure_of_whole, done_of_whole)
    assert delivered.tokens == delivered_of_whole.tokens


@given(STREAMS, st.integers(0, 400))
def test_an_answer_looks_whole_exactly_when_it_is(data: bytes, lost: int) -> None:
    data = data[: len(data) - lost]
    out, failure, done, delivered = relayed(data, [], usage=False)
    ended = re.search(rb'"finish_reason": "stop"}]}', data) is not None
    assert done is ended
    assert out.endswith(DONE) is ended
    assert out.count(DONE) == int(ended)
    assert (failure is None) is ended
    assert (delivered.finished == 1) is ended


@given(
    st.dictionaries(st.text(max_size=5), st.one_of(st.none(), st.text(), st.integers()), max_size=4),
    st.sampled_from([None, {"prompt_tokens": 3, "completion_tokens": 4}, {}]),
    st.sampled_from([",", ", ", " ,", ",\n  ", " , "]),
    st.sampled_from([":", ": ", " :", " : ", ":\t"]),
    st.integers(0, 4),
)
def test_one_member_is_taken_out_whatever_the_white_space(
    others: dict[str, Any], value: Any, comma: str, colon: str, place: int
) -> None:
    others = {f"x{name}": member for name, member in others.items()} | {"decoy": ', "usage": null, "usage":null,'}
    members = [json.dumps(name) + colon + json.dumps(member) for name, member in others.items()]
    members.insert(place, f'"usage"{colon}{json.dumps(value)}')
    event = b"data: {" + comma.join(members).encode() + b"}"
    shorter = without(event, b"usage", json.dumps(value).encode())
    assert json.loads(shorter.removeprefix(b"data: ")) == others


def test_the_only_member_is_taken_out() -> None:
    assert without(b'data: {"usage":null}', b"usage", b"null") == b"data: {}"
    assert without(b'data: { "usage" : null }', b"usage", b"null") == b"data: { }"
    assert without(b'data: {"usage": null, "a":1}', b"usage", b"null") == b'data: { "a":1}'
    assert without(b'data: {"a":1}', b"usage", b"null") == b'data: {"a":1}'
