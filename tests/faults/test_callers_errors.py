"""Errors that are the caller's own are passed on once; a context overflow goes to a larger context if there is one."""

import json

import pytest

from tests.faults import misbehave
from tests.faults.conftest import MakeGateway, MakeWall
from tests.faults.fault import Fault, Kind
from tests.faults.harness import Pool
from tests.faults.judge import assert_whole
from tests.faults.language_model import ask

OVERFLOWS = (Kind.OVERFLOW_OPENAI, Kind.OVERFLOW_VLLM, Kind.OVERFLOW_LLAMACPP)


def said_by_replica(kind: Kind) -> object:
    """Return the error object that a replica sends for a fault."""
    whole = misbehave.refusal(Fault(kind))
    assert whole is not None
    return json.loads(whole.partition(b"\r\n\r\n")[2])["error"]


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("kind", [Kind.CALLER_ERROR, Kind.CONTENT_FILTER])
async def test_passed_on_as_it_is_once(
    make_wall: MakeWall, make_gateway: MakeGateway, kind: Kind, streamed: bool
) -> None:
    first, second = make_wall(), make_wall()
    gateway = make_gateway(Pool("first", (first,)), Pool("second", (second,), order=1))
    first.otherwise = second.otherwise = Fault(kind)
    for _ in range(8):
        received = await gateway.ask(ask("wrong", stream=streamed))
        assert received.status == 400
        assert received.error == said_by_replica(kind)
        assert received.headers["x-secondsource-pool"] == "first", "the caller's errors open no circuit"
    assert (len(first.seen), len(second.seen)) == (8, 0)


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("kind", OVERFLOWS)
async def test_overflow_goes_to_a_larger_context(
    make_wall: MakeWall, make_gateway: MakeGateway, kind: Kind, streamed: bool
) -> None:
    small, same, large = make_wall(), make_wall(), make_wall()
    gateway = make_gateway(
        Pool("small", (small, same), context_tokens=4096),
        Pool("small-elsewhere", (same_elsewhere := make_wall(),), order=1, context_tokens=4096),
        Pool("large", (large,), order=2, context_tokens=32768),
    )
    small.otherwise = same.otherwise = same_elsewhere.otherwise = Fault(kind)
    body = ask("long", stream=streamed)
    received = await gateway.ask(body)
    assert_whole(received, body)
    assert received.headers["x-secondsource-pool"] == "large"
    assert len(small.seen) + len(same.seen) + len(same_elsewhere.seen) == 1
    assert len(large.seen) == 1


@pytest.mark.parametrize("kind", OVERFLOWS)
async def test_overflow_with_no_larger_context_is_passed_on_once(
    make_wall: MakeWall, make_gateway: MakeGateway, kind: Kind
) -> None:
    first, second = make_wall(), make_wall()
    gateway = make_gateway(Pool("first", (first,)), Pool("second", (second,), order=1))
    first.otherwise = second.otherwise = Fault(kind)
    received = await gateway.ask(ask("too long"))
    assert received.status == 400
    assert received.error == said_by_replica(kind)
    assert (len(first.seen), len(second.seen)) == (1, 0)
