"""Streams that are odd and yet whole: the client has the whole answer, from the one replica, promptly."""

from typing import Any

import pytest

from tests.faults.conftest import MakeGateway, MakeWall
from tests.faults.fault import ODD_BUT_WHOLE, Fault, Kind
from tests.faults.harness import Pool
from tests.faults.judge import STREAM, STREAM_USAGE, assert_whole
from tests.faults.language_model import ask


@pytest.mark.parametrize("options", [STREAM, STREAM_USAGE], ids=["plain", "usage"])
@pytest.mark.parametrize("kind", ODD_BUT_WHOLE)
async def test_whole_from_one_replica(
    make_wall: MakeWall, make_gateway: MakeGateway, kind: Kind, options: dict[str, Any]
) -> None:
    first, second = make_wall(), make_wall()
    pools = (Pool("first", (first,)), Pool("second", (second,), order=1))
    gateway = make_gateway(*pools, timeouts={"between_tokens": 5.0})
    first.plan(Fault(kind, after_tokens=4, seconds=0.005))
    body = ask(f"odd {kind}", wide=True, **options)
    received = await gateway.ask(body)
    assert_whole(received, body)
    assert received.seconds < 3.0, "it ends promptly"
    if kind is not Kind.ONE_MALFORMED:  # which may have been a token: another replica may be asked for it
        assert (len(first.seen), len(second.seen)) == (1, 0)


async def test_one_malformed_event_does_not_lose_the_rest(make_wall: MakeWall, make_gateway: MakeGateway) -> None:
    wall = make_wall(otherwise=Fault(Kind.ONE_MALFORMED, after_tokens=4))
    gateway = make_gateway(Pool("only", (wall,)))
    body = ask("malformed", wide=True, **STREAM)
    assert_whole(await gateway.ask(body), body)
    assert len(wall.seen) == 1
