"""The wall itself tells the truth: what it calls undisturbed is, and each fault does what it says."""

import asyncio
from typing import Any

import pytest

from tests.faults import language_model as lm
from tests.faults.conftest import MakeWall
from tests.faults.dialects import Dialect
from tests.faults.fault import BREAKS_STREAM, ODD_BUT_WHOLE, Fault, Kind
from tests.faults.language_model import ask, ask_raw, expected_answer
from tests.faults.raw_client import End, post

STREAM = {"stream": True, "stream_options": {"include_usage": True}}
TOOLS = {"tools": [{"type": "function", "function": {"name": "look_up", "parameters": {}}}]}


def test_answer_continues_from_every_token_as_if_undisturbed() -> None:
    body = ask("model", wide=True, size=400)
    prompt, _ = lm.split_prompt(lm.apply_template(body["messages"]))
    ids = lm.generate(prompt)
    assert any(lm.unfinished(lm.detokenize(ids[:cut])) for cut in range(len(ids))), "no character in pieces"
    for cut in range(len(ids)):
        assert lm.generate(prompt, lm.detokenize(ids[:cut])) == ids[cut:]


def test_answer_after_a_wrong_prefix_is_another() -> None:
    prompt, _ = lm.split_prompt(lm.apply_template(ask("model", size=400)["messages"]))
    ids = lm.generate(prompt)
    wrong = lm.generate(prompt, lm.detokenize(ids[:10]) + b" ")
    assert lm.detokenize(wrong)[:40] not in lm.detokenize(ids)


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize(
    "extra", [{}, {"max_tokens": 7}, {"n": 3}, {"response_format": {"type": "json_object"}}, TOOLS]
)
async def test_undisturbed_chat_equals_expected(make_wall: MakeWall, extra: dict[str, Any], wide: bool) -> None:
    wall = make_wall()
    body = ask("undisturbed", wide=wide, **extra)
    streamed, whole = await post(wall.url, body | STREAM), await post(wall.url, body)
    for index in range(body.get("n", 1)):
        assert streamed.text(index) == whole.text(index) == expected_answer(body, index)
        assert len(streamed.finish_reasons(index)) == 1
    assert streamed.looks_whole
    assert streamed.usage == whole.usage
    assert [seen.tokens_sent for seen in wall.seen] == [whole.json["usage"]["completion_tokens"]] * 2


async def test_undisturbed_completion_equals_expected(make_wall: MakeWall) -> None:
    wall = make_wall()
    body = ask_raw("undisturbed", wide=True)
    assert (await post(wall.url, body | STREAM)).text() == expected_answer(body)
    assert (await post(wall.url, body)).text() == expected_answer(body)


CONTINUES = {
    Dialect.VLLM: {"continue_final_message": True, "add_generation_prompt": False},
    Dialect.VLLM_TOKENS: {"continue_final_message": True, "add_generation_prompt": False},
    Dialect.LLAMACPP: {},
    Dialect.ECHO: {},
}


@pytest.mark.parametrize("dialect", list(Dialect))
async def test_dialect_goes_on_in_its_own_way(make_wall: MakeWall, dialect: Dialect) -> None:
    wall = make_wall(dialect=dialect)
    body = ask("dialect")
    answer = expected_answer(body)
    turn = {"role": "assistant", "content": answer[:50]}
    again = body | CONTINUES.get(dialect, {}) | {"messages": [*body["messages"], turn]} | STREAM
    received = await post(wall.url, again)
    if dialect is Dialect.REFUSES:
        assert received.status == 400
        return
    assert received.looks_whole
    if dialect is Dialect.IGNORES:
        assert received.text() not in answer
    else:
        assert received.text() == (answer if dialect is Dialect.ECHO else answer[50:])


async def test_hosted_api_refuses_what_it_does_not_know(make_wall: MakeWall) -> None:
    received = await post(make_wall(dialect=Dialect.IGNORES).url, ask("unknown", return_token_ids=True))
    assert received.status == 400


async def test_llamacpp_continues_exactly_by_token_ids(make_wall: MakeWall) -> None:
    wall = make_wall(dialect=Dialect.LLAMACPP)
    body = ask("ids", wide=True)
    streamed = await post(wall.url, body | STREAM | {"logprobs": True})
    entries = [entry for choice in streamed.choices() for entry in (choice.get("logprobs") or {}).get("content", [])]
    template = (await post(wall.url, {"messages": body["messages"]}, path="/apply-template")).json["prompt"]
    mixed: list[str | int] = [template]
    for entry in entries[:9]:
        alone = lm.VOCABULARY[entry["id"]] == bytes(entry["bytes"])
        mixed.append(entry["id"] if alone else entry["token"])
    rest = await post(wall.url, {"model": "x", "prompt": mixed} | STREAM)
    said = "".join(entry["token"] for entry in entries[:9])
    assert said + rest.text() == expected_answer(body)


async def test_vllm_gives_and_takes_token_ids(make_wall: MakeWall) -> None:
    wall = make_wall(dialect=Dialect.VLLM_TOKENS)
    body = ask("ids", wide=True)
    streamed = await post(wall.url, body | STREAM | {"return_token_ids": True})
    prompt_ids = streamed.chunks[0]["prompt_token_ids"]
    ids = [number for choice in streamed.choices() for number in choice.get("token_ids", [])]
    assert lm.detokenize(ids).decode() == streamed.text() == expected_answer(body)
    for cut in range(1, len(ids), 3):
        before = lm.detokenize(ids[:cut])
        again = {"model": "x", "prompt": prompt_ids + ids[:cut], "max_tokens": 400, "return_token_ids": True}
        rest = await post(wall.url, again | STREAM)
        if lm.unfinished(before):
            assert rest.text().startswith("<|user|>"), "vLLM's issue 48853: the prompt is said again"
        else:
            assert before.decode() + rest.text() == expected_answer(body)


@pytest.mark.parametrize("dialect", [Dialect.VLLM_TOKENS, Dialect.LLAMACPP])
async def test_stop_string_ends_the_text_before_it(make_wall: MakeWall, dialect: Dialect) -> None:
    wall = make_wall(dialect=dialect)
    whole = expected_answer(ask("stops"))
    body = ask("stops", stop=[whole[60:66], "never said"])
    received = await post(wall.url, body | STREAM | {"return_token_ids": dialect is Dialect.VLLM_TOKENS})
    assert received.text() == expected_answer(body) == whole[: whole.index(whole[60:66])]
    assert received.finish_reasons() == ["stop"]
    assert received.looks_whole


async def test_legacy_default_limit_is_the_engines_own(make_wall: MakeWall) -> None:
    body = ask_raw("default") | {"max_tokens": None}
    vllm, llamacpp = make_wall(dialect=Dialect.VLLM), make_wall(dialect=Dialect.LLAMACPP)
    assert (await post(vllm.url, body)).json["usage"]["completion_tokens"] == 16
    assert (await post(llamacpp.url, body)).text() == expected_answer(body)


async def test_vllm_refuses_more_tokens_than_fit(make_wall: MakeWall) -> None:
    wall = make_wall(context_tokens=300)
    assert (await post(wall.url, ask("fits", max_tokens=300))).status == 400
    assert (await post(wall.url, ask("fits", max_tokens=200))).status == 200


@pytest.mark.parametrize("kind", BREAKS_STREAM)
async def test_breaking_fault_leaves_a_prefix_and_no_whole_answer(make_wall: MakeWall, kind: Kind) -> None:
    wall = make_wall()
    wall.plan(Fault(kind, after_tokens=5))
    body = ask("broken") | STREAM
    try:
        received = await post(wall.url, body, patience=0.5)
    except ValueError:  # this client, too, chokes on a chunk size that is no number
        assert kind is Kind.WRONG_CHUNK_SIZE
        return
    (seen,) = wall.seen
    assert seen.tokens_sent == 5
    assert expected_answer(body).startswith(seen.text_sent)
    assert not seen.finished
    if kind in {Kind.STALL, Kind.PINGS, Kind.ENDLESS_LINE}:
        assert received.end is End.TIMEOUT
        await asyncio.sleep(0.1)
        assert seen.peer_closed_early


@pytest.mark.parametrize("kind", ODD_BUT_WHOLE)
async def test_odd_fault_still_carries_the_whole_answer(make_wall: MakeWall, kind: Kind) -> None:
    wall = make_wall()
    wall.plan(Fault(kind, after_tokens=5, seconds=0.001))
    body = ask("odd", wide=True) | STREAM
    received = await post(wall.url, body, patience=0.7)
    (seen,) = wall.seen
    assert seen.finished
    assert seen.text_sent == expected_answer(body)
    if kind not in {Kind.CARRIAGE_RETURNS, Kind.ONE_MALFORMED}:  # which this client does not read
        assert received.text() == expected_answer(body)


async def test_refused_and_then_back_on_the_same_port(make_wall: MakeWall) -> None:
    wall = make_wall()
    url = wall.url
    wall.refuse()
    with pytest.raises(ConnectionRefusedError):
        await post(url, ask("refused"))
    wall.listen()
    assert wall.url == url
    assert (await post(url, ask("back"))).status == 200
