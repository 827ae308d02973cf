"""What leaves for the client of one attempt's stream, and what the relay makes of its oddities."""

import json
from typing import Any

import pytest

from secondsource.core.records import Outcome
from secondsource.gateway.wire.delivered import Delivered
from secondsource.gateway.wire.relay import Relay, finish_event
from secondsource.gateway.wire.request import Ask, Endpoint
from secondsource.policy.accounting import Usage
from tests.streams import DONE, ask, chunk, counts, payloads_in, read, says, stream, text_of

LIMIT = 1 << 20


def make(asked: Ask | None = None, *, strip_ids: bool = False, event_limit: int = LIMIT, kept: int = LIMIT) -> Relay:
    return Relay(asked or ask(), Delivered(kept), event_limit=event_limit, strip_ids=strip_ids, splice=None)


def delivered_of(relay: Relay) -> Delivered:
    return relay._delivered


def test_events_pass_as_they_are() -> None:
    data = stream(says(role="assistant"), says("Hel"), says("lo"), says("", finish="stop"))
    relay = make()
    assert relay.feed(data) == data
    assert relay.done
    assert relay.failure is None
    assert relay.tokens_out == 2


def test_nothing_leaves_before_something_of_the_answer_does() -> None:
    relay = make()
    assert relay.feed(stream(says(role="assistant"), says(""), done=False)) == b""
    assert not delivered_of(relay).sent
    assert payloads_in(relay.feed(stream(says("x"), done=False))) == [says(role="assistant"), says(""), says("x")]
    assert delivered_of(relay).sent


def test_comments_and_bare_names_are_no_progress_and_go_nowhere() -> None:
    relay = make()
    assert relay.feed(b": ping\n\nevent: x\n\ndata:\n\n") == b""
    assert not relay.progressed
    relay.feed(stream(says("x"), done=False))
    assert relay.progressed


def test_done_before_the_finish_reason_is_a_cut() -> None:
    relay = make()
    out = relay.feed(stream(says("x")))
    assert relay.failure is Outcome.CUT
    assert DONE not in out
    assert not relay.done


def test_every_choice_must_be_finished() -> None:
    relay = make(ask(n=2))
    out = relay.feed(stream(says("a"), says("b", index=1), says(finish="stop")))
    assert relay.failure is Outcome.CUT
    assert DONE not in out


def test_fewer_choices_than_asked_for_are_taken_at_the_replicas_word() -> None:
    relay = make(ask(n=2))
    assert relay.feed(stream(says("a", finish="stop"))).endswith(DONE)


def test_an_end_without_done_is_whole_once_every_choice_is() -> None:
    relay = make()
    relay.feed(stream(says("a", finish="stop"), done=False))
    assert relay.complete
    assert relay.end() == DONE
    assert relay.done


def test_a_last_event_without_its_blank_line_counts() -> None:
    relay = make()
    data = stream(says("a", finish="stop"), done=False)
    assert relay.feed(data[:-2]) == b""
    assert relay.end() == data + DONE


@pytest.mark.parametrize("end", [b"", b"\r", b"\n", b"\r\n", b"\r\n\r"])
def test_a_last_done_without_its_blank_line_counts(end: bytes) -> None:
    relay = make()
    relay.feed(stream(says("a", finish="stop"), done=False) + b"data: [DONE]" + end)
    assert relay.end() == DONE


def test_half_an_event_at_the_end_is_a_cut_and_not_waited_for() -> None:
    relay = make()
    whole = stream(says("a"), says("b"), done=False)
    assert payloads_in(relay.feed(whole[:-20])) == [says("a")]
    assert relay.end() == b""
    assert relay.failure is Outcome.CUT


def test_half_an_event_after_the_finish_is_nothing() -> None:
    relay = make()
    relay.feed(stream(says("a", finish="stop"), done=False) + b'data: {"usa')
    assert relay.end() == DONE
    assert relay.failure is None


def test_one_malformed_event_can_be_left_out() -> None:
    relay = make()
    out = relay.feed(stream(says("a"), b'{"choices":[', says("b"), says(finish="stop")))
    assert (relay.failure, relay.may_skip) == (Outcome.GARBLED, True)
    out += relay.skip_malformed()
    assert text_of(read(out)) == "ab"
    assert relay.done
    assert not relay.may_skip


def test_what_is_no_json_at_all_is_ignored() -> None:
    relay = make()
    out = relay.feed(stream(says("a"), b"ping", says("b", finish="stop")))
    assert text_of(read(out)) == "ab"
    assert relay.done


def test_an_event_without_end_fails_and_cannot_be_left_out() -> None:
    relay = make(event_limit=1000)
    out = relay.feed(stream(says("a"), done=False) + b"data: {" + b"x" * 2000)
    assert text_of(read(out)) == "a"  # what came before it is not lost
    assert (relay.failure, relay.may_skip) == (Outcome.GARBLED, False)


@pytest.mark.parametrize("error", [{"message": "out of memory"}, "boom"])
@pytest.mark.parametrize("odd", [{}, {"id": []}, {"choices": [{"delta": {"content": 5}}]}])
def test_an_error_inside_the_stream_is_a_failure(error: Any, odd: dict[str, Any]) -> None:
    relay = make()
    relay.feed(stream(says("a"), json.dumps({"error": error} | odd).encode(), done=False))
    assert relay.failure is Outcome.ERROR_EVENT


@pytest.mark.parametrize("reason", ["abort", "error"])
def test_an_answer_that_the_engine_gave_up_is_cut(reason: str) -> None:
    relay = make()
    out = relay.feed(stream(says("a"), says(finish=reason)))
    assert relay.failure is Outcome.CUT
    assert read(out) == read(stream(says("a")))


def test_usage_is_taken_out_unless_the_client_asked() -> None:
    with_null = chunk([{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}], usage=None)
    data = stream(with_null, counts(3, 1))
    relay = make()
    out = relay.feed(data)
    assert b"usage" not in out
    assert text_of(read(out)) == "a"
    assert relay.usage == Usage(3, 0, 1)
    asked = make(ask(stream_options={"include_usage": True}))
    assert asked.feed(data) == data
    assert asked.usage == Usage(3, 0, 1)


def test_usage_that_the_replica_owes_is_our_own_count() -> None:
    relay = make(ask(stream_options={"include_usage": True}))
    events = read(relay.feed(stream(says("a"), says("b"), says(finish="stop"))))
    assert events[-1]["choices"] == []
    assert events[-1]["usage"]["completion_tokens"] == 2
    assert events[-1]["id"] == "one"


def test_token_ids_are_kept_and_taken_out() -> None:
    choice = {"index": 0, "delta": {"content": "a"}, "finish_reason": None, "token_ids": [5, 6]}
    first = {"index": 0, "delta": {"role": "assistant", "content": ""}}
    relay = make(strip_ids=True)
    out = relay.feed(stream(chunk([first], prompt_token_ids=[1, 2]), chunk([choice]), done=False))
    assert b"token_ids" not in out
    assert delivered_of(relay).prompt_token_ids == [1, 2]
    assert delivered_of(relay).choices[0].pieces == [("a", b"[5, 6]")]


def test_what_the_client_asked_for_itself_stays() -> None:
    choice = {"index": 0, "delta": {"content": "a"}, "finish_reason": "stop", "logprobs": {"content": []}}
    data = stream(chunk([choice]))
    assert make().feed(data) == data


@pytest.mark.parametrize("odd", [{"id": 12}, {"created": 1.5}, {"model": None}, {"system_fingerprint": [1]}])
def test_oddly_typed_names_are_no_obstacle(odd: dict[str, Any]) -> None:
    data = stream(chunk([{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}], **odd))
    assert make().feed(data) == data


def test_an_answer_of_unknown_shape_passes_whole_and_in_order() -> None:
    listed = [{"index": 0, "delta": {"content": [{"type": "thinking", "thinking": "hm"}]}}]
    data = stream(says(role="assistant"), chunk(listed), says("a"), says(finish="stop"))
    relay = make()
    assert relay.feed(data) == data
    assert relay.done


def test_what_an_unknown_shape_said_can_neither_be_continued_nor_compared() -> None:
    listed = [{"index": 0, "delta": {"content": [{"type": "text", "text": "hm"}]}}]
    relay = make()
    relay.feed(stream(says("a"), chunk(listed), says("b"), done=False))
    delivered = delivered_of(relay)
    assert delivered.sent
    assert delivered.untold
    assert not delivered.comparable


def test_unknown_json_that_is_no_part_of_the_answer_changes_nothing() -> None:
    relay = make()
    assert relay.feed(stream(b"5", b"[]", done=False)) == b""
    assert not delivered_of(relay).sent
    out = relay.feed(stream(says("a"), b"true", says(finish="stop")))
    assert payloads_in(out) == [b"5", b"[]", says("a"), b"true", says(finish="stop"), b"[DONE]"]
    assert delivered_of(relay).comparable


def test_an_answer_that_outgrew_the_limit_is_forgotten() -> None:
    relay = make(kept=1000)
    for _ in range(50):
        relay.feed(stream(says("0123456789", reasoning="x", refusal="y"), done=False))
    delivered = delivered_of(relay)
    assert delivered.untold
    assert not delivered.comparable
    so_far = delivered.choices[0]
    assert (so_far.pieces, so_far.reasoning, so_far.refusal) == ([], [], [])


def test_an_old_style_function_call_cannot_be_compared() -> None:
    relay = make()
    relay.feed(stream(says(function_call={"name": "f", "arguments": "{"}), done=False))
    assert not delivered_of(relay).comparable


def test_the_event_that_ends_an_answer_at_the_clients_limit() -> None:
    relay = make()
    relay.feed(stream(says("a"), done=False))
    [event] = read(finish_event(ask(), delivered_of(relay), "length"))
    assert event["choices"] == [{"index": 0, "finish_reason": "length", "delta": {}}]
    assert (event["id"], event["object"], event["created"]) == ("one", "chat.completion.chunk", 7)
    text = Relay(ask(Endpoint.COMPLETIONS), Delivered(LIMIT), event_limit=LIMIT, strip_ids=False, splice=None)
    text.feed(stream(chunk([{"index": 0, "text": "a"}], object="text_completion"), done=False))
    [event] = read(finish_event(ask(Endpoint.COMPLETIONS), delivered_of(text), "length"))
    assert event["choices"] == [{"index": 0, "finish_reason": "length", "text": ""}]


def test_a_malformed_event_after_the_finish_reason_loses_nothing() -> None:
    relay = make()
    out = relay.feed(stream(says("x"), says("", finish="stop"), b'{"choices": [{"ind', counts(3, 1)))
    assert relay.failure is None
    assert relay.done
    assert relay.usage == Usage(3, 0, 1)
    assert out.endswith(DONE)
