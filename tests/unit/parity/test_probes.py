"""Every probe is made the same each time, differs from its neighbours, and is asked as OpenAI's API has it."""

import json

import pytest

from secondsource.parity.probes import RAW, Kind, document, make_probe
from secondsource.parity.wire import Answer, Asked, Position, Token, ToolCall, read_answer, request_of


@pytest.mark.parametrize("kind", Kind)
def test_probes_are_many_and_always_the_same(kind: Kind) -> None:
    made = [make_probe(kind, number, 60) for number in range(24)]
    assert made == [make_probe(kind, number, 60) for number in range(24)]
    assert len({(probe.prompt, probe.messages) for probe in made}) == 24


def test_a_longer_document_begins_as_a_shorter_one() -> None:
    assert document(90).startswith(document(30))


def test_the_question_about_a_long_document_asks_for_its_beginning() -> None:
    for number in range(30):
        text = make_probe(Kind.LONG, number, 80).messages[0].content
        records, question = text.rsplit("\n\n", 1)
        wanted = int("".join(one for one in question if one.isdigit()))
        assert records.splitlines()[wanted - 1].startswith(f"Record {wanted}:")
        assert wanted <= len(records.splitlines()) / 4 + 1


@pytest.mark.parametrize("kind", Kind)
def test_a_request_is_openais(kind: Kind) -> None:
    probe = make_probe(kind, 3, 20)
    path, body = request_of(probe, Asked(model="m", top_logprobs=5, temperature=1.0, seed=7))
    asked = json.loads(body)
    assert (asked["model"], asked["temperature"], asked["seed"]) == ("m", 1.0, 7)
    if kind in RAW:
        assert path == b"/v1/completions"
        assert (asked["prompt"], asked["logprobs"]) == (probe.prompt, 5)
        _, more = request_of(probe, Asked(model="m"), said=" and so")
        assert json.loads(more)["prompt"] == probe.prompt + " and so"
        assert "logprobs" not in json.loads(more)
    else:
        assert path == b"/v1/chat/completions"
        assert (asked["logprobs"], asked["top_logprobs"]) == (True, 5)
        assert ("tools" in asked, "response_format" in asked) == (kind is Kind.TOOLS, kind is Kind.JSON)


def test_a_chats_answer_is_read() -> None:
    top = [{"token": "\ufffd", "bytes": [195], "logprob": -0.5}, {"token": "o", "bytes": None, "logprob": -0.1}]
    body = {
        "choices": [
            {
                "finish_reason": "stop",
                "message": {"content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]},
                "logprobs": {"content": [top[0] | {"top_logprobs": top}]},
            }
        ],
        "usage": {"prompt_tokens": 4, "completion_tokens": 1},
    }
    assert read_answer(200, json.dumps(body).encode()) == Answer(
        status=200,
        positions=(Position(b"\xc3", (Token(b"o", -0.1), Token(b"\xc3", -0.5))),),
        calls=(ToolCall("f", "{}"),),
        finish="stop",
        prompt_tokens=4,
        answer_tokens=1,
    )


def test_a_raw_completions_older_form_is_read() -> None:
    logprobs = {"tokens": ["a"], "token_logprobs": [-0.1], "top_logprobs": [{"b": -2.0, "a": -0.1}]}
    found = read_answer(200, json.dumps({"choices": [{"text": "a", "logprobs": logprobs}]}).encode())
    assert found.positions == (Position(b"a", (Token(b"a", -0.1), Token(b"b", -2.0))),)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"choices": []}', b"\xff", b'{"choices": [{"text": 3}]}'])
def test_what_is_no_completion_is_no_answer(body: bytes) -> None:
    assert read_answer(200, body).status == 0


def test_a_refusal_keeps_what_it_says() -> None:
    assert read_answer(400, b"too long" * 99) == Answer(status=400, error=("too long" * 99)[:300])


@pytest.mark.parametrize("name", ["", "<|im_end|>", "</s>", "<end_of_turn>", "<|eot_id|>"])
def test_the_end_of_an_answer_has_one_name_whoever_writes_it(name: str) -> None:
    spot = {"token": name, "logprob": -0.1}
    body = {"choices": [{"logprobs": {"content": [spot | {"top_logprobs": [spot]}]}}]}
    assert read_answer(200, json.dumps(body).encode()).positions == (Position(b"", (Token(b"", -0.1),)),)
