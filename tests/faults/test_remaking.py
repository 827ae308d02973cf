"""A broken stream that cannot be continued: made afresh, spliced in while it repeats, and else an open error."""

from typing import Any

import pytest

from tests.faults import language_model as lm
from tests.faults.conftest import MakeGateway, MakeWall
from tests.faults.dialects import Dialect
from tests.faults.fault import Fault, Kind
from tests.faults.harness import Pool
from tests.faults.judge import STREAM, STREAM_USAGE, assert_broken_openly, assert_whole
from tests.faults.language_model import Quirk, ask
from tests.faults.pair import Pair
from tests.faults.wall import HABIT

TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "reply", "schema": {"type": "object"}}}
FORMS: dict[str, dict[str, Any]] = {
    "several choices": {"n": 3},
    "json schema": {"response_format": SCHEMA},
    "json object": {"response_format": {"type": "json_object"}},
    "tool call": {"tools": [TOOL]},
}


def unlike_pair(make_wall: MakeWall, make_gateway: MakeGateway, continuation: str, **second: Any) -> Pair:
    """Return a preferred replica, a second source that is unlike it, and a gateway over both."""
    walls = make_wall(), make_wall(**second)
    pools = [
        Pool(name, (wall,), continuation=continuation, order=order)
        for order, (name, wall) in enumerate(zip(("first", "second"), walls, strict=True))
    ]
    return Pair(*walls, make_gateway(*pools))


@pytest.mark.parametrize("cut", [0, 1, 9, 30])
async def test_pool_that_cannot_continue_makes_it_afresh(
    make_wall: MakeWall, make_gateway: MakeGateway, cut: int
) -> None:
    pair = unlike_pair(make_wall, make_gateway, "none")
    body = ask("afresh", size=300, wide=True, **STREAM_USAGE)
    pair.first.plan(Fault(Kind.CUT, after_tokens=cut))
    assert_whole(await pair.gateway.ask(body), body)
    assert (len(pair.first.seen), len(pair.second.seen)) == (1, 1)
    assert not pair.second.seen[0].trailing_assistant


@pytest.mark.parametrize("form", FORMS)
async def test_form_that_cannot_be_continued_is_made_afresh(
    make_wall: MakeWall, make_gateway: MakeGateway, form: str
) -> None:
    pair = unlike_pair(make_wall, make_gateway, "prefill")
    body = ask(form, **STREAM, **FORMS[form])
    pair.first.plan(Fault(Kind.CUT, after_tokens=12))
    assert_whole(await pair.gateway.ask(body), body)
    assert (len(pair.first.seen), len(pair.second.seen)) == (1, 1)
    assert not pair.second.seen[0].trailing_assistant


@pytest.mark.parametrize("form", ["text", *FORMS])
@pytest.mark.parametrize("departs_at", [0, 20])
async def test_answer_that_departs_is_an_explicit_error(
    make_wall: MakeWall, make_gateway: MakeGateway, form: str, departs_at: int
) -> None:
    quirk = Quirk("another mood", from_byte=departs_at)
    pair = unlike_pair(make_wall, make_gateway, "none", quirk=quirk)
    body = ask(f"departs {form}", **STREAM, **FORMS.get(form, {}))
    pair.first.plan(Fault(Kind.CUT, after_tokens=15))
    received = await pair.gateway.ask(body)
    assert_broken_openly(received, body)
    assert (len(pair.first.seen), len(pair.second.seen)) == (1, 1)


async def test_answer_that_departs_only_later_is_whole(make_wall: MakeWall, make_gateway: MakeGateway) -> None:
    quirk = Quirk("another mood", from_byte=150)
    pair = unlike_pair(make_wall, make_gateway, "none", quirk=quirk)
    body = ask("departs later", size=300, **STREAM)
    pair.first.plan(Fault(Kind.CUT, after_tokens=10))
    received = await pair.gateway.ask(body)
    assert received.looks_whole
    prompt, _ = lm.split_prompt(lm.apply_template(body["messages"]))
    assert received.text() == lm.detokenize(lm.generate(prompt, b"", quirk)).decode()


@pytest.mark.parametrize("dialect", [Dialect.REFUSES, Dialect.IGNORES])
async def test_refused_prefill_is_found_out_once(
    make_wall: MakeWall, make_gateway: MakeGateway, dialect: Dialect
) -> None:
    pair = unlike_pair(make_wall, make_gateway, "prefill", dialect=dialect)
    for number in range(3):
        body = ask(f"refused prefill {number}", size=300, **STREAM)
        pair.first.plan(Fault(Kind.CUT, after_tokens=10))
        assert_whole(await pair.gateway.ask(body), body)
        settle = ask("settle", size=20)
        assert_whole(await pair.gateway.ask(settle), settle)
    assert pair.second.probes.count(HABIT) == 1
    assert not any(seen.trailing_assistant for seen in pair.second.seen)
    assert len(pair.second.seen) == 3


async def test_remade_answer_that_breaks_too_is_made_a_third_time(
    make_wall: MakeWall, make_gateway: MakeGateway
) -> None:
    walls = [make_wall() for _ in range(3)]
    gateway = make_gateway(
        *(Pool(f"pool-{order}", (wall,), order=order, continuation="none") for order, wall in enumerate(walls))
    )
    body = ask("thrice", size=300, wide=True, **STREAM)
    walls[0].plan(Fault(Kind.CUT, after_tokens=20))
    walls[1].plan(Fault(Kind.CUT, after_tokens=10))
    assert_whole(await gateway.ask(body), body)
    assert [len(wall.seen) for wall in walls] == [1, 1, 1]
