"""The question whether an engine says a given beginning again, and what its answers mean."""

import json

import msgspec
import pytest

from secondsource.gateway.wire.habit import GIVEN, habit_request, repeats_given
from tests.streams import says, stream

WHOLE = b'{"choices": [{"index": 0, "message": {"role": "assistant", "content": %s}}]}'


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([GIVEN + " four"], True),
        ([GIVEN[:9], GIVEN[9:], " four"], True),
        ([" " + GIVEN], True),
        ([" four", " gulls"], False),
        ([GIVEN[:20]], False),  # a model that begins anew has no room for all of it
        (["", ""], False),
    ],
)
def test_all_of_it_in_the_answer_is_a_repetition(pieces: list[str], expected: bool) -> None:
    answer = stream(says(role="assistant"), *(says(piece) for piece in pieces), says("", finish="length"))
    assert repeats_given(answer) is expected
    assert repeats_given(answer.replace(b"\n", b"\r\n")) is expected
    assert repeats_given(WHOLE % json.dumps("".join(pieces)).encode()) is expected


@pytest.mark.parametrize("answer", [b"", b"{}", b"data: [DONE]\n\n", b'data: {"error": 1}\n\n', b"data: {\n\n", b"<p>"])
def test_what_is_no_answer_says_nothing(answer: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        repeats_given(answer)


def test_an_answer_that_says_nothing_in_words_repeats_nothing() -> None:
    assert repeats_given(b'data: {"choices": [{"delta": null}]}\n\ndata: {"choices": null}\n\n') is False


def test_the_question_goes_on_with_a_turn_in_the_engines_way() -> None:
    for engine in ("llamacpp", "sglang", ""):
        path, body = habit_request("m", engine)
        asked = json.loads(body)
        assert path == "/v1/chat/completions"
        assert asked["messages"][-1] == {"role": "assistant", "content": GIVEN}
        assert asked["stream"] is True
        assert asked.get("continue_final_message", False) is (engine != "llamacpp")
        assert asked["max_tokens"] < len(GIVEN.split())
