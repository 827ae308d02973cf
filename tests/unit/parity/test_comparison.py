"""Two answers are compared for as long as they stand before the same text, and no longer."""

from math import log

import msgspec
import pytest

from secondsource.parity.comparison import Pair, can_go_on, compare
from secondsource.parity.probes import Kind, make_probe
from secondsource.parity.wire import Answer, Position, Token, ToolCall
from tests.unit.parity.answers import answer, exchange, position

TALK = make_probe(Kind.TALK, 0, 20)


def test_the_same_is_the_same() -> None:
    said = answer(position("x", x=0.7, y=0.2), position("y", y=0.9, x=0.05))
    found = compare(TALK, exchange(said, said))
    assert [(spot.place, spot.agrees, spot.gap) for spot in found.spots] == [(0, True, 0.0), (1, True, 0.0)]
    assert found.gap == 0
    assert max(spot.divergence for spot in found.spots) < 1e-12
    assert (found.refused, found.same_text, found.strays) == (None, None, False)


def test_what_follows_where_they_parted_is_not_compared() -> None:
    a = answer(position("x", x=0.6, y=0.4), position("x", x=0.9, y=0.1))
    b = answer(position("y", y=0.6, x=0.4), position("x", x=0.1, y=0.9))
    [spot] = compare(TALK, exchange(a, b)).spots
    assert not spot.agrees
    assert spot.gap == pytest.approx(log(0.6 / 0.4))
    assert spot.divergence == pytest.approx(0.6 * log(0.6 / 0.4) + 0.4 * log(0.4 / 0.6))


def test_a_token_that_the_other_does_not_list_is_at_most_as_likely_as_its_last() -> None:
    a = answer(position("p", p=0.5, q=0.3))
    b = answer(position("p", z=0.6, p=0.4))
    [spot] = compare(TALK, exchange(a, b)).spots
    assert spot.gap == pytest.approx(log(0.6 / 0.3))
    # p alone is listed by both; all else is one rest, and so the divergence can only be too small
    assert spot.divergence == pytest.approx(0.4 * log(0.4 / 0.5) + 0.6 * log(0.6 / 0.5))


def test_the_gap_of_a_probe_is_a_root_mean_square() -> None:
    a = answer(position("x", x=0.5), position("x", x=0.5))
    b = answer(position("x", x=0.5), position("x", x=0.25))
    assert compare(TALK, exchange(a, b)).gap == pytest.approx(log(2) / 2**0.5)


def test_a_raw_text_goes_on_from_the_others_words() -> None:
    a = answer(position("x", x=0.6, y=0.4), position("x", x=1.0))
    b = answer(position("y", y=0.6, x=0.4), position("z", z=1.0))
    raw = exchange(a, b, Kind.PROSE)
    assert can_go_on(raw) == "y"
    assert can_go_on(exchange(a, b)) is None  # a chat cannot, at every server
    assert can_go_on(exchange(b, b, Kind.PROSE)) is None
    further = exchange(a, b, Kind.PROSE, pairs=(*raw.pairs, Pair(answer(position("z", z=1.0)), b)))
    assert [spot.place for spot in compare(make_probe(Kind.PROSE, 0, 20), further).spots] == [0, 1]


def test_it_does_not_go_on_within_a_character() -> None:
    half = position("x", x=0.5)
    b = answer(half, half)
    torn = msgspec.structs.replace(
        b, positions=(msgspec.structs.replace(half, chosen="é".encode()[:1]), half), text="?"
    )
    assert can_go_on(exchange(b, torn, Kind.PROSE)) is None


@pytest.mark.parametrize(
    ("status", "refused"), [(400, "too long"), (404, "too long"), (500, None), (0, None), (429, "too long")]
)
def test_only_what_the_other_answers_can_be_refused(status: int, refused: str | None) -> None:
    said, no = answer(position("x", x=1.0)), Answer(status=status, error="too long")
    assert compare(TALK, exchange(no, said)).refused == refused
    assert compare(TALK, exchange(said, no)).refused is None
    assert compare(TALK, exchange(no, no)).spots == ()


def test_without_log_probabilities_texts_are_compared_at_their_beginning() -> None:
    a, b = (Answer(status=200, text="The harbour lay still in the morning sun" + end) for end in ("!", "?"))
    assert compare(TALK, exchange(a, b)).same_text is True
    other = Answer(status=200, text="A harbour lay still")
    assert compare(TALK, exchange(other, b)).same_text is False


def test_a_token_that_was_not_the_likeliest_strays() -> None:
    a, b = answer(position("y", x=0.6, y=0.4)), answer(position("x", x=0.6, y=0.4))
    assert compare(TALK, exchange(a, b)).strays is True
    tie = answer(position("y", x=0.5, y=0.5))
    assert compare(TALK, exchange(tie, b)).strays is False


def test_json_and_tool_calls_follow_their_schema_or_do_not() -> None:
    good, bad = '{"customer": "Hana", "goods": "bolts", "count": 3}', '{"customer": "Hana", "count": true}'
    for kind in (Kind.JSON, Kind.TOOLS):
        probe = make_probe(kind, 0, 20)
        a, b = (
            Answer(status=200, text=text, calls=(ToolCall(probe.tool, text),) if probe.tool else ())
            for text in (bad, good)
        )
        assert compare(probe, exchange(a, b, kind)).valid == (False, True)
    other = Answer(status=200, calls=(ToolCall("another_tool", good),))
    assert compare(make_probe(Kind.TOOLS, 0, 20), exchange(other, other, Kind.TOOLS)).valid == (False, False)


def test_what_is_said_at_temperature_1_is_held_against_what_is_said_at_0() -> None:
    said, else_said = answer(position("x", x=0.5)), answer(position("y", y=0.5))
    found = compare(
        make_probe(Kind.SAMPLING, 0, 20), exchange(said, said, Kind.SAMPLING, sampled=Pair(said, else_said))
    )
    assert found.one_voiced == (True, False)


def test_a_character_in_pieces_is_not_compared_with_a_whole_one() -> None:
    whole = Position("里".encode(), (Token("里".encode()[2:], -0.3),))  # llama.cpp: the last piece's list
    piece = Position("里".encode()[:2], (Token("里".encode()[:2], -0.6),))
    start = position("x", x=0.9)
    first, second = (
        Answer(status=200, positions=(start, odd), prompt_tokens=7, answer_tokens=2) for odd in (piece, whole)
    )
    found = compare(TALK, exchange(first, second))
    assert [spot.place for spot in found.spots] == [0]
    assert compare(TALK, exchange(second, first)).strays is False
    assert len(compare(TALK, exchange(first, first)).spots) == 2
