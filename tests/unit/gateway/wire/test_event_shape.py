"""What may pass unparsed: an event of a known outline, whatever inside of a JSON string stands in it."""

import pytest

from secondsource.gateway.wire.event_shape import inner_text, shape_of
from tests.streams import says


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b" the", " the"),
        ("é😀".encode(), "é😀"),
        (rb"\n\t\"\\\/\u00e9", '\n\t"\\/é'),
        (rb"\u0000", "\0"),
        (rb"\uD7FF\uE000", "\ud7ff\ue000"),
        (b"", None),
        (b'"', None),
        (b"\\", None),
        (rb"\x", None),
        (rb"\u12", None),
        (b"\n", None),
        (rb"\ud83d\ude00", None),  # a character in two escapes, which an engine may put into two events
        (rb"\udc00", None),
        (b"\xff", None),
        (b"\\n\xff", None),
    ],
)
def test_the_inside_of_a_string(raw: bytes, text: str | None) -> None:
    assert inner_text(raw) == text


def test_a_shape_is_what_stands_around_the_text_as_it_comes_and_as_it_leaves() -> None:
    sent = b"data: " + says(" the")
    event = sent[:-1] + b',"usage":null}'
    shape = shape_of(event, 0, " the", sent)
    assert shape is not None
    assert shape.before + b" the" + shape.after == event + b"\n\n"
    assert shape.sent_before + b" the" + shape.sent_after == sent + b"\n\n"
    assert not shape.as_it_came
    assert shape.fits(event)
    assert not shape.fits(sent)


def test_an_event_that_leaves_as_it_came() -> None:
    event = b"data: " + says(" the")
    shape = shape_of(event, 0, " the", event)
    assert shape is not None
    assert shape.as_it_came


@pytest.mark.parametrize("text", ["m", '"', "\n", "\\n", ""])
def test_a_text_that_could_stand_elsewhere_teaches_nothing(text: str) -> None:
    event = b"data: " + says(text)
    assert shape_of(event, 0, text, event) is None
