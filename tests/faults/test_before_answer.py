"""A replica that fails before the first token: the answer comes from another one, within the configured waits."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate

import pytest

from tests.faults.fault import BEFORE_ANSWER, Fault, Kind
from tests.faults.harness import TIMEOUTS
from tests.faults.judge import STREAM, assert_broken_openly, assert_whole
from tests.faults.language_model import ask
from tests.faults.pair import Pair, until
from tests.faults.wall import Wall


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("kind", BEFORE_ANSWER)
async def test_another_replica_answers(shared_pair: Pair, kind: Kind, streamed: bool) -> None:
    await shared_pair.calm()
    received = await shared_pair.broken(ask(f"before {kind}", stream=streamed), Fault(kind))
    assert received.seconds < TIMEOUTS["answer"] + 1.5
    assert received.headers["x-secondsource-pool"] == "second"
    assert received.headers["x-secondsource-attempts"] == "2"


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
async def test_gzip_that_nobody_asked_for(shared_pair: Pair, streamed: bool) -> None:
    await shared_pair.calm()
    shared_pair.first.plan(Fault(Kind.UNASKED_GZIP))
    body = ask("gzip", stream=streamed)
    assert_whole(await shared_pair.gateway.ask(body), body)  # unpacked, or made elsewhere


WHOLE_ANSWER_FAULTS = (
    *(Kind.LENGTH_LONG, Kind.LENGTH_SHORT, Kind.CUT, Kind.CUT_RST, Kind.STALL, Kind.GARBLED, Kind.NULS),
    Kind.GIGABYTE,
)


@pytest.mark.parametrize("kind", WHOLE_ANSWER_FAULTS)
async def test_whole_answer_that_breaks_is_made_again(shared_pair: Pair, kind: Kind) -> None:
    await shared_pair.calm()
    await shared_pair.broken(ask(f"whole {kind}"), Fault(kind))
    assert shared_pair.gateway.rss_mib() < 400, "what is held for one answer is bounded"


async def test_refused_connection(pair: Pair) -> None:
    first, second, gateway = pair.first, pair.second, pair.gateway
    first.refuse()
    took = []
    for number in range(20):
        body = ask(f"refused {number}", stream=number % 2 == 0)
        received = await gateway.ask(body)
        assert_whole(received, body)
        took.append(received.seconds)
    assert statistics.median(took) < 1.0
    assert len(second.seen) == 20
    first.listen()
    await until(pair.first_is_asked, seconds=15)


async def test_kept_alive_connection_that_was_closed_is_no_failure(pair: Pair) -> None:
    first, second, gateway = pair.first, pair.second, pair.gateway
    assert_whole(await gateway.ask(ask("warm")), ask("warm"))
    first.refuse()
    first.listen()
    body = ask("after the close")
    assert_whole(await gateway.ask(body), body)
    assert len(first.seen) + len(second.seen) == 2


@pytest.mark.parametrize("kind", [Kind.THROTTLED, Kind.UNAVAILABLE])
@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_retry_after_is_honoured(pair: Pair, kind: Kind, form: str) -> None:
    first, gateway = pair.first, pair.gateway
    begun = time.time()
    first.plan(Fault(kind, retry_after="2" if form == "seconds" else formatdate(begun + 3, usegmt=True)))
    while time.time() < begun + 1.8:
        body = ask(f"throttled {time.time()}")
        assert_whole(await gateway.ask(body), body)
        assert len(first.seen) == 1 or time.time() >= begun + 2, "asked again before its Retry-After"
        await asyncio.sleep(0.05)
    await until(pair.first_is_asked, seconds=15)


async def test_throttling_without_a_hint_backs_off(pair: Pair) -> None:
    first, second, gateway = pair.first, pair.second, pair.gateway
    first.otherwise = Fault(Kind.THROTTLED)
    begun = time.monotonic()
    while time.monotonic() < begun + 3 or len(second.seen) <= 30:
        body = ask(f"storm {time.monotonic()}")
        assert_whole(await gateway.ask(body), body)
        await asyncio.sleep(0.01)
    assert 1 <= len(first.seen) <= 8, "a throttled replica is not hammered"


async def test_failing_replica_is_left_alone_and_returned_to(pair: Pair) -> None:
    first, second, gateway = pair.first, pair.second, pair.gateway
    first.otherwise = Fault(Kind.SERVER_ERROR)
    bodies = [ask(f"failing {number}", stream=number % 2 == 0) for number in range(200)]
    for body, received in zip(bodies, await gateway.ask_many(bodies), strict=True):
        assert_whole(received, body)
    assert len(second.seen) == 200
    assert len(first.seen) <= 20, "a failing replica is not hammered"
    first.otherwise = Fault(Kind.NONE)
    await until(pair.first_is_asked, seconds=20)


async def test_both_failing_is_an_honest_error_and_no_storm(pair: Pair) -> None:
    first, second, gateway = pair.first, pair.second, pair.gateway
    first.otherwise = second.otherwise = Fault(Kind.SERVER_ERROR)
    bodies = [ask(f"both {number}", stream=number % 2 == 0) for number in range(100)]
    for body, received in zip(bodies, await gateway.ask_many(bodies), strict=True):
        assert received.status in {500, 502, 503}
        assert_broken_openly(received, body)
    assert len(first.seen) + len(second.seen) <= 60, "retries are bounded"


async def test_everything_throttled_tells_the_client_when(pair: Pair) -> None:
    first, second, gateway = pair.first, pair.second, pair.gateway
    first.otherwise = second.otherwise = Fault(Kind.THROTTLED, retry_after="30")
    received = await gateway.ask(ask("all throttled"))
    assert received.status in {429, 503}
    assert 20 <= int(received.headers["retry-after"]) <= 30
    assert_broken_openly(received, ask("all throttled"))
    again = [await gateway.ask(ask(f"all throttled again {number}")) for number in range(3)]
    assert {one.status for one in again} <= {429, 503}
    assert min(one.seconds for one in again) < 1.0
    assert len(first.seen) == len(second.seen) == 1


async def test_silent_replica_is_not_asked_the_same_again(pair: Pair) -> None:
    first, second, gateway = pair.first, pair.second, pair.gateway
    first.otherwise = Fault(Kind.SILENCE)
    second.otherwise = Fault(Kind.SERVER_ERROR)
    received = await gateway.ask(ask("silent", **STREAM))
    assert_broken_openly(received, ask("silent"))
    assert len(first.seen) == 1
    await until(left(first), seconds=2)


def left(wall: Wall) -> Callable[[], Awaitable[bool]]:
    """Return whether the gateway hung up on every request that this replica is not answering."""

    async def hung_up() -> bool:
        return all(seen.peer_closed_early for seen in wall.seen)

    return hung_up
