"""An engine of unknown habit: it is asked once whether it says a given beginning again, so that no word is guessed."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.faults import language_model as lm
from tests.faults.conftest import MakeGateway, MakeWall, make_pair
from tests.faults.dialects import Dialect
from tests.faults.fault import Fault, Kind
from tests.faults.harness import Pool
from tests.faults.judge import STREAM, assert_whole
from tests.faults.language_model import ask, ask_raw
from tests.faults.wall import HABIT

UNKNOWN = (Dialect.LLAMACPP, Dialect.ECHO)
BROKEN = (Kind.RESET, Kind.SILENCE, Kind.SERVER_ERROR, Kind.THROTTLED, Kind.ERROR_200, Kind.WRONG_CONTENT_TYPE)


def stammering(times: int, make: Callable[..., dict[str, Any]] = ask) -> dict[str, Any]:
    """A request whose answer says its first word again, `times` in all."""
    asked = (make(f"stammer {number}", size=80, **STREAM) for number in range(100_000))
    return next(body for body in asked if len(set(lm.expected_ids(body)[:times])) == 1)


@pytest.mark.parametrize("dialect", UNKNOWN)
@pytest.mark.parametrize(("times", "cut"), [(2, 1), (3, 1), (3, 2)])
async def test_a_model_that_says_its_first_word_again_is_not_taken_for_an_engine_that_does(
    make_wall: MakeWall, make_gateway: MakeGateway, dialect: Dialect, times: int, cut: int
) -> None:
    pair = make_pair(make_wall, make_gateway, dialect=dialect)
    await pair.broken(stammering(times), Fault(Kind.CUT, after_tokens=cut))
    await pair.calm()
    await pair.broken(stammering(times), Fault(Kind.CUT, after_tokens=cut))
    assert pair.second.probes.count(HABIT) == 1
    assert pair.first.probes.count(HABIT) == 0


async def test_vllm_and_text_completions_are_asked_nothing(make_wall: MakeWall, make_gateway: MakeGateway) -> None:
    for dialect, make in ((Dialect.VLLM, ask), (Dialect.LLAMACPP, ask_raw)):
        pair = make_pair(make_wall, make_gateway, dialect=dialect)
        await pair.broken(stammering(2, make), Fault(Kind.CUT, after_tokens=1))
        assert HABIT not in pair.second.probes


@pytest.mark.parametrize("kind", BROKEN)
async def test_an_engine_that_does_not_answer_the_question_is_not_continued_at(
    make_wall: MakeWall, make_gateway: MakeGateway, kind: Kind
) -> None:
    first, second, third = walls = [make_wall(dialect=Dialect.ECHO) for _ in range(3)]
    gateway = make_gateway(*(Pool(f"pool-{order}", (wall,), order=order) for order, wall in enumerate(walls)))
    first.plan(Fault(Kind.CUT, after_tokens=2))
    second.habit_script.append(Fault(kind))
    body = ask("no answer to the question", size=200, **STREAM)
    received = await gateway.ask(body)
    assert_whole(received, body)
    assert [len(wall.seen) for wall in (first, second, third)] == [1, 0, 1]
    outcomes = [row["outcome"] for row in await gateway.attempts(received)]
    assert outcomes[0] == "cut"
    assert outcomes[2] == "ok"
    assert len(outcomes) == 3


async def test_many_that_are_cut_at_once_ask_once(make_wall: MakeWall, make_gateway: MakeGateway) -> None:
    pair = make_pair(make_wall, make_gateway, dialect=Dialect.ECHO)
    pair.first.plan(*(Fault(Kind.CUT, after_tokens=3) for _ in range(20)))
    bodies = [ask(f"many {number}", size=120, **STREAM) for number in range(20)]
    for body, received in zip(bodies, await pair.gateway.ask_many(bodies, at_once=20), strict=True):
        assert_whole(received, body)
    assert pair.second.probes.count(HABIT) <= 1
    assert pair.first.probes.count(HABIT) <= 1
