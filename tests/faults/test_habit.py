"""An engine of unknown habit: it is asked once whether it says a given beginning again, so that no word is guessed."""

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

BROKEN = (Kind.RESET, Kind.SILENCE, Kind.SERVER_ERROR, Kind.THROTTLED, Kind.ERROR_200, Kind.WRONG_CONTENT_TYPE)


def stammering(times: int) -> dict[str, Any]:
    """A request whose answer says its first word again, `times` in all."""
    asked = (ask(f"stammer {number}", size=80, **STREAM) for number in range(100_000))
    return next(body for body in asked if len(set(lm.expected_ids(body)[:times])) == 1)


@pytest.mark.parametrize(
    ("dialect", "times", "cut"), [(Dialect.LLAMACPP, 2, 1), (Dialect.LLAMACPP, 3, 1), (Dialect.ECHO, 3, 2)]
)
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
        await pair.broken(make("nothing to ask", **STREAM), Fault(Kind.CUT, after_tokens=1))
        assert HABIT not in pair.second.probes


async def test_an_engine_that_does_not_answer_the_question_is_not_continued_at(
    make_wall: MakeWall, make_gateway: MakeGateway
) -> None:
    sources = {kind: [make_wall(dialect=Dialect.ECHO) for _ in range(3)] for kind in BROKEN}  # each kind has a model
    gateway = make_gateway(
        *(
            Pool(f"{kind}-{order}", (wall,), order=order, model=kind)
            for kind, walls in sources.items()
            for order, wall in enumerate(walls)
        )
    )
    for kind, walls in sources.items():
        walls[0].plan(Fault(Kind.CUT, after_tokens=2))
        walls[1].habit_script.append(Fault(kind))
        body = ask("no answer to the question", size=200, **STREAM) | {"model": kind}
        received = await gateway.ask(body)
        assert_whole(received, body)
        assert [len(wall.seen) for wall in walls] == [1, 0, 1], kind
        outcomes = [row["outcome"] for row in await gateway.attempts(received)]
        assert (outcomes[0], outcomes[2], len(outcomes)) == ("cut", "ok", 3), kind


async def test_many_that_are_cut_at_once_ask_once(make_wall: MakeWall, make_gateway: MakeGateway) -> None:
    pair = make_pair(make_wall, make_gateway, dialect=Dialect.ECHO)
    pair.first.plan(*(Fault(Kind.CUT, after_tokens=3) for _ in range(20)))
    bodies = [ask(f"many {number}", size=120, **STREAM) for number in range(20)]
    for body, received in zip(bodies, await pair.gateway.ask_many(bodies, at_once=20), strict=True):
        assert_whole(received, body)
    assert pair.second.probes.count(HABIT) <= 1
    assert pair.first.probes.count(HABIT) <= 1
