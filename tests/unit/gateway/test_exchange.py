"""One request over replicas that the test plays: what the client reads, where it goes on, and what the books hold."""

import asyncio
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondsource.core.fleet import Continuation, Limits, Pool
from secondsource.core.records import Kind, Outcome, Reserved, Settled
from secondsource.gateway.wire.request import Ask, Endpoint, parse_request
from secondsource.policy.circuit import CircuitState
from tests.fleets import MODEL, pool, replica_of
from tests.streams import DONE, ask, counts, read, says, text_of
from tests.unit.gateway.stage import JSON, Stage

WHOLE = json.dumps(
    {"choices": [{"finish_reason": "stop"}], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
).encode()
USAGE = {"include_usage": True}


def two(**changes: Any) -> tuple[Pool, Pool]:
    return pool("a", **changes), pool("b", order=1, **changes)


def whole(**parameters: Any) -> Ask:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]} | parameters
    return parse_request(Endpoint.CHAT, json.dumps(body).encode())


def test_a_stream_from_its_first_replica() -> None:
    stage = Stage(ask(), *two())
    stage.call.streams(says("a"), says("b", finish="stop"), counts(3, 2), done=True)
    assert text_of(read(stage.connection.body)) == "ab"
    assert stage.connection.body.endswith(DONE)
    assert (stage.connection.ended, stage.connection.kept) == (1, True)
    assert stage.connection.headers[b"x-secondsource-pool"] == b"a"
    assert stage.connection.headers[b"x-secondsource-attempts"] == b"1"
    stage.check_settled()
    [settled] = [record for record in stage.records if isinstance(record, Settled)]
    assert (settled.tokens_in, settled.tokens_out, settled.usage_counted) == (3, 2, False)
    assert stage.call.left  # its connection may be kept


def test_who_has_waited_is_sent_where_it_may_be_sent_now() -> None:
    stage = Stage(ask(), pool("a"), starts=False)
    stage.exchange.started -= 10.0
    stage.router.replicas[0].circuit.throttled_until = time.monotonic() - 1.0  # and so it was at its arrival
    stage.exchange.start()
    assert len(stage.calls) == 1


def test_an_answer_that_is_not_streamed() -> None:
    stage = Stage(whole(), *two())
    stage.call.answers(200, WHOLE)
    assert (stage.connection.status, stage.connection.body) == (200, WHOLE)
    stage.check_settled()


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (500, b"oops", Outcome.SERVER_ERROR),
        (429, b"", Outcome.THROTTLED),
        (404, b"", Outcome.SERVER_ERROR),
        (200, b"<html>", Outcome.GARBLED),
        (200, b"[]", Outcome.GARBLED),
        (200, b'{"error":{"message":"x"}}', Outcome.SERVER_ERROR),
        (200, b'{"choices":[{"finish_reason":"abort"}]}', Outcome.CUT),
    ],
)
def test_an_answer_that_is_none_is_asked_elsewhere(status: int, body: bytes, outcome: Outcome) -> None:
    stage = Stage(whole(), *two())
    stage.call.answers(status, body)
    assert [call.replica for call in stage.calls] == ["a", "b"]
    stage.call.answers(200, WHOLE)
    assert stage.connection.body == WHOLE
    assert stage.outcomes() == [outcome, Outcome.OK]
    assert stage.connection.headers[b"x-secondsource-attempts"] == b"2"
    stage.check_settled()


def test_a_callers_error_is_passed_on_as_it_is() -> None:
    stage = Stage(ask(), *two())
    stage.call.answers(400, b'{"error":{"message":"no such tool"}}')
    assert (stage.connection.status, stage.connection.body) == (400, b'{"error":{"message":"no such tool"}}')
    stage.check_settled()


def test_a_compressed_answer_is_refused() -> None:
    stage = Stage(whole(), *two())
    stage.call.handler.on_head(200, JSON | {b"content-encoding": b"gzip"})
    assert stage.outcomes() == [Outcome.GARBLED]


def test_a_cut_stream_goes_on_by_prefill() -> None:
    stage = Stage(ask(max_tokens=10), *two())
    stage.call.streams(says("Hel"), says("lo")).fails(Outcome.CUT)
    assert stage.call.fields["messages"][-1] == {"role": "assistant", "content": "Hello"}
    assert stage.call.fields["max_tokens"] == 8
    stage.call.streams(says(role="assistant", content=""), says(" you", finish="stop"), done=True)
    assert text_of(read(stage.connection.body)) == "Hello you"
    assert [record.kind for record in stage.records if isinstance(record, Reserved)] == [Kind.FIRST, Kind.CONTINUATION]
    stage.check_settled()


def test_a_stream_that_cannot_be_continued_is_made_afresh() -> None:
    stage = Stage(ask(), *two(continuation=Continuation.NONE))
    stage.call.streams(says("Hel")).fails(Outcome.CUT)
    stage.call.streams(says("Hello"), says(finish="stop"), done=True)
    assert text_of(read(stage.connection.body)) == "Hello"
    assert [record.kind for record in stage.records if isinstance(record, Reserved)] == [Kind.FIRST, Kind.REMAKE]
    stage.check_settled()


def test_an_answer_that_departs_ends_in_an_error_and_without_done() -> None:
    stage = Stage(ask(), *two(continuation=Continuation.NONE))
    stage.call.streams(says("Hel")).fails(Outcome.CUT)
    stage.call.streams(says("Help"), says(finish="stop"), done=True)
    stage = Stage(ask(), *two(continuation=Continuation.NONE))
    stage.call.streams(says("Hel")).fails(Outcome.CUT)
    stage.call.streams(says("Bye"))
    assert DONE not in stage.connection.body
    assert read(stage.connection.body)[-1]["error"]["code"] == "stream_broken"
    assert not stage.connection.kept
    stage.check_settled()


def test_white_space_alone_is_made_afresh_and_the_books_say_so() -> None:
    stage = Stage(ask(), *two())
    stage.call.streams(says(" ")).fails(Outcome.CUT)
    assert stage.call.fields["messages"][-1]["role"] == "user"
    assert [record.kind for record in stage.records if isinstance(record, Reserved)] == [Kind.FIRST, Kind.REMAKE]


@pytest.mark.parametrize(
    "events",
    [
        [says("x" * 2000), says("y" * 2000)],
        [says(function_call={"name": "f"})],
        [says("a"), json.dumps({"choices": [{"delta": {"content": [{"text": "b"}]}}]}).encode()],
    ],
    ids=["too long to keep", "old-style function call", "unknown shape"],
)
def test_what_cannot_be_compared_is_never_said_again(events: list[bytes]) -> None:
    stage = Stage(ask(), *two(), limits=Limits(kept=1000))
    stage.call.streams(*events).fails(Outcome.CUT)
    assert len(stage.calls) == 1
    assert b"stream_broken" in stage.connection.body
    assert DONE not in stage.connection.body
    stage.check_settled()


@pytest.mark.parametrize("status", [400, 404, 405, 422, 501])
def test_a_refused_prefill_is_remembered_and_never_reaches_the_client(status: int) -> None:
    stage = Stage(ask(), *two())
    stage.call.streams(says("Hel")).fails(Outcome.CUT)
    stage.call.answers(status, b'{"error":{"message":"the last message must be from the user"}}')
    assert replica_of(stage.router, "b").state.continuation is Continuation.NONE
    stage.call.streams(says("Hello", finish="stop"), done=True)
    assert text_of(read(stage.connection.body)) == "Hello"
    assert stage.outcomes() == [Outcome.CUT, Outcome.PREFILL_REFUSED, Outcome.OK]
    stage.check_settled()


def test_an_overflow_of_a_continuation_is_no_refusal() -> None:
    stage = Stage(ask(), *two(context_tokens=4096), pool("c", order=2, context_tokens=32768))
    stage.call.streams(says("Hel")).fails(Outcome.CUT)
    stage.call.answers(400, b'{"error":{"message":"maximum context length is 4096"}}')
    assert replica_of(stage.router, "b").state.continuation is Continuation.PREFILL
    assert stage.call.replica == "c"
    stage.call.streams(says("lo", finish="stop"), done=True)
    assert text_of(read(stage.connection.body)) == "Hello"
    stage.check_settled()


def test_a_cut_where_the_clients_limit_ends_the_answer_is_its_end() -> None:
    stage = Stage(ask(max_tokens=2, stream_options=USAGE), *two())
    stage.call.streams(says("a"), says("b")).fails(Outcome.CUT)
    events = read(stage.connection.body)
    assert events[-2]["choices"][0]["finish_reason"] == "length"
    assert events[-1]["usage"]["completion_tokens"] == 2
    assert stage.connection.body.endswith(DONE)
    assert len(stage.calls) == 1
    stage.check_settled()


def test_a_complete_stream_does_not_need_its_message_to_end_well() -> None:
    stage = Stage(ask(), *two())
    stage.call.streams(says("a", finish="stop"))
    assert not stage.connection.ended  # usage may still come
    stage.call.fails(Outcome.CUT)
    assert stage.connection.body.endswith(DONE)
    assert stage.outcomes() == [Outcome.OK]


def test_a_complete_stream_without_done_ends_at_its_deadline() -> None:
    stage = Stage(ask(), *two())
    stage.call.streams(says("a", finish="stop"))
    stage.pass_time()
    assert stage.connection.body.endswith(DONE)
    stage.check_settled()


def test_half_an_event_at_the_end_is_cut_at_once_with_nobody_else_to_ask() -> None:
    stage = Stage(ask(), pool("a"))
    stage.call.streams(says("a"))
    stage.call.handler.on_body(b'data: {"choices":[')
    stage.call.handler.on_end()
    assert stage.outcomes() == [Outcome.CUT]


def test_silence_before_and_after_the_first_token() -> None:
    stage = Stage(ask(), pool("a"), pool("b", order=1), pool("c", order=2))
    stage.call.streams(says(role="assistant"))
    stage.pass_time()
    stage.call.streams(says("a"))
    stage.pass_time()
    stage.call.streams(says("b", finish="stop"), done=True)
    assert stage.outcomes() == [Outcome.FIRST_TOKEN_TIMEOUT, Outcome.STALLED, Outcome.OK]
    assert text_of(read(stage.connection.body)) == "ab"
    stage.check_settled()


def test_the_whole_time_is_up() -> None:
    stage = Stage(ask(), *two())
    stage.call.streams(says("a"))
    stage.pass_time(total=True)
    assert stage.outcomes() == [Outcome.TOTAL_TIMEOUT]
    assert b"stream_broken" in stage.connection.body
    stage.check_settled()


def test_a_client_that_leaves_frees_the_replica_and_is_settled_once() -> None:
    stage = Stage(ask(), *two())
    stage.call.streams(says("a"))
    stage.exchange.client_gone()
    stage.exchange.client_gone()
    assert stage.call.aborted
    assert stage.outcomes() == [Outcome.CLIENT_GONE]
    assert stage.statuses == [499]
    stage.check_settled()


def test_a_slow_client_holds_back_its_replica_and_the_next_one() -> None:
    stage = Stage(ask(), *two())
    stage.call.streams(says("a"))
    stage.exchange.client_reads(ready=False)
    assert stage.call.paused
    stage.call.fails(Outcome.CUT)
    assert stage.call.replica == "b"
    assert stage.call.paused
    stage.exchange.client_reads(ready=True)
    assert not stage.call.paused


def test_nobody_well_means_503_and_when_to_come_back() -> None:
    stage = Stage(ask(), pool("a"))
    stage.call.fails(Outcome.CONNECT_FAILED)
    while not stage.connection.ended:
        stage.exchange._wait_ends = 0.0
        stage.pass_time()
    assert stage.connection.status == 503
    assert int(stage.connection.headers[b"retry-after"]) >= 1
    assert b"no_replica_available" in stage.connection.body
    assert replica_of(stage.router, "a").circuit.state is CircuitState.OPEN
    stage.check_settled()


def test_books_that_cannot_be_written_refuse() -> None:
    stage = Stage(ask(), *two())
    stage.books_fail = True
    stage.call.fails(Outcome.RESET)
    assert stage.connection.status == 503
    assert b"ledger_unavailable" in stage.connection.body
    assert len(stage.calls) == 1


def test_retry_after_is_the_replicas_own() -> None:
    stage = Stage(ask(), pool("a"))
    stage.call.answers(429, b"", JSON | {b"retry-after": b"100"})
    stage.exchange.deadline_passed(time.monotonic() + 1.0)
    assert stage.connection.status == 429
    assert 99 <= int(stage.connection.headers[b"retry-after"]) <= 100
    stage.check_settled()


STEPS = st.lists(
    st.sampled_from(["text", "cut", "reset", "500", "429", "silence", "error", "garbage", "half", "role", "end"]),
    max_size=40,
)


@given(STEPS, st.sampled_from(list(Continuation)), st.booleans(), st.booleans(), st.integers(1, 3))
def test_whatever_happens_the_client_is_answered_once_and_the_books_balance(  # noqa: PLR0912 -- one case a step
    steps: list[str], continuation: Continuation, usage: bool, leaves: bool, pools: int
) -> None:
    """The replicas all say `abcdef…` and go wrong at will; what looks whole must be whole."""
    parameters: dict[str, Any] = {"stream_options": USAGE} if usage else {}
    names = [pool(f"p{number}", continuation=continuation, order=number) for number in range(pools)]
    stage = Stage(ask(**parameters), *names)
    answer = "abcdefghijklmnopqrstuvwxyz"
    places: dict[int, int] = {}
    for step in steps:
        if stage.connection.ended:
            break
        call = stage.calls[-1]
        if call.over:
            break  # waiting for a replica
        prefix = call.fields["messages"][-1] if call.fields["messages"][-1]["role"] == "assistant" else {"content": ""}
        place = places.setdefault(id(call), len(prefix["content"]))
        match step:
            case "text":
                call.streams(says(answer[place : place + 1]))
                places[id(call)] = min(place + 1, len(answer))
            case "role":
                call.streams(says(role="assistant", content=""))
            case "end":
                call.streams(*(says(letter) for letter in answer[place:]), says(finish="stop"), done=True)
            case "cut":
                call.fails(Outcome.CUT)
            case "reset":
                call.fails(Outcome.RESET)
            case "silence":
                stage.pass_time()
            case "error":
                call.streams(b'{"error":{"message":"out of memory"}}')
            case "garbage":
                call.streams(b"hello")
            case "half":
                call.streams().handler.on_body(b'data: {"choi')
                if not call.over:
                    call.handler.on_end()
            case _ if not call.handler.status:
                call.answers(int(step), b"{}")
    else:
        if leaves and not stage.connection.ended:
            stage.exchange.client_gone()
            stage.check_settled()
    events = read(stage.connection.body) if stage.connection.status == 200 else []
    said = text_of([event for event in events if "choices" in event])
    assert answer.startswith(said)
    if DONE in stage.connection.body:
        assert said == answer
        assert stage.connection.ended == 1
    if stage.connection.ended:
        stage.check_settled()


async def test_an_exact_continuation_prepares_at_the_replica_first() -> None:
    """Without a prompt from the replica it is remembered as refused, and asked more simply."""
    stage = Stage(
        ask(), pool("a", continuation=Continuation.TOKENS), pool("b", continuation=Continuation.TOKENS, order=1)
    )
    for replica in stage.router.replicas:
        replica.engine = "llamacpp"
    stage.call.streams(says("Hel"))
    clients = stage.exchange._surroundings.clients
    asked: list[bytes] = []

    class Prepared:
        status = 404
        body = b""

    async def fetch(method: bytes, path: bytes, body: bytes, timeout_s: float | None, limit: int) -> Prepared:
        asked.append(path)
        return Prepared()

    for client in clients.values():
        client.fetch = fetch  # type: ignore[assignment]
    stage.call.fails(Outcome.CUT)
    for _ in range(10):
        await asyncio.sleep(0)
    assert asked == [b"/apply-template"]
    assert stage.outcomes() == [Outcome.CUT, Outcome.PREFILL_REFUSED]
    assert stage.call.fields["messages"][-1] == {"role": "assistant", "content": "Hel"}
    stage.call.streams(says("lo", finish="stop"), done=True)
    assert text_of(read(stage.connection.body)) == "Hello"
