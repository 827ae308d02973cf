"""However an answer is cut into tokens, its text is the same and ends before its stop string."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from secondsource.engine.service.stopping import TextStream


def pushed(stream: TextStream, pieces: list[bytes]) -> list[str]:
    return [stream.push(piece) for piece in pieces]


def test_half_a_character_waits_for_its_other_half() -> None:
    stream = TextStream()
    first, second = "é".encode()[:1], "é".encode()[1:]
    assert pushed(stream, [b"caf", first, second, b"!"]) == ["caf", "", "é", "!"]
    assert stream.end() == ""


def test_half_a_character_at_the_end_is_left_off() -> None:
    stream = TextStream()
    assert pushed(stream, [b"a", "😀".encode()[:3]]) == ["a", ""]
    assert stream.end() == ""


def test_bytes_that_are_no_text_are_replaced() -> None:
    assert "".join(pushed(TextStream(), [b"a\xff", b"b"])) == "a\ufffdb"


def test_what_may_be_a_stop_string_is_held_and_given_when_it_is_not() -> None:
    stream = TextStream(["STOP"])
    assert pushed(stream, [b"go S", b"T", b"ART"]) == ["go ", "", "START"]
    assert pushed(stream, [b"ST"]) == [""]
    assert stream.end() == "ST"
    assert not stream.stopped


def test_nothing_comes_of_or_after_a_stop_string() -> None:
    stream = TextStream(["\n\n", "END"])
    assert pushed(stream, [b"one\n", b"two E", b"ND and", b"more"]) == ["one", "\ntwo ", "", ""]
    assert stream.stopped
    assert stream.end() == ""


@given(
    text=st.text(alphabet="abé😀", max_size=30),
    stops=st.lists(st.text(alphabet="abé😀", min_size=1, max_size=4), max_size=3),
    cuts=st.lists(st.integers(0, 120)),
)
def test_any_cutting_gives_the_text_before_the_earliest_stop(text: str, stops: list[str], cuts: list[int]) -> None:
    data = text.encode()
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [data[start:end] for start, end in pairwise(places)]
    stream = TextStream(stops)
    came = "".join(pushed(stream, pieces)) + stream.end()
    ends = [(at + len(stop), at) for stop in stops if (at := text.find(stop)) >= 0]
    assert stream.stopped == bool(ends)
    assert came == (text[: min(ends)[1]] if ends else text)
