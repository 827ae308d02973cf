"""Wherever an answer is cut and however the next one comes, the client reads one answer, or is told that it cannot."""

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from hypothesis import assume, example, given
from hypothesis import strategies as st

from secondsource.core.records import Outcome
from secondsource.gateway.wire.continuation import Method
from secondsource.gateway.wire.delivered import Delivered
from secondsource.gateway.wire.relay import Relay
from secondsource.gateway.wire.request import Ask, Endpoint
from secondsource.gateway.wire.splice import Splice
from tests.streams import (
    DONE,
    Json,
    ask,
    chunk,
    counts,
    cuts,
    payloads_in,
    pieces_of,
    read,
    says,
    stream,
    text_of,
    writes,
)

LIMIT = 1 << 20
TEXT = st.text(alphabet="ab \nü🙂", max_size=40)
USAGE = {"include_usage": True}


def split(text: str, places: Sequence[int]) -> list[str]:
    """Return a text in pieces, as an engine's tokens cut it."""
    ends = sorted({min(place, len(text)) for place in places} | {0, len(text)})
    return [text[start:end] for start, end in pairwise(ends)]


def deliver(asked: Ask, delivered: Delivered, *payloads: bytes, splice: Splice | None = None) -> bytes:
    """Relay a first attempt that is cut after these events."""
    relay = Relay(asked, delivered, event_limit=LIMIT, strip_ids=False, splice=splice)
    out = relay.feed(stream(*payloads, done=False))
    assert relay.failure is None
    return out


def go_on(
    asked: Ask,
    delivered: Delivered,
    method: Method,
    data: bytes,
    cut: Sequence[int] = (),
    *,
    repeats: bool = False,
) -> tuple[bytes, Relay, Splice]:
    """Relay the attempt that goes on."""
    splice = Splice(delivered, asked.endpoint, method, repeats=repeats)
    relay = Relay(asked, delivered, event_limit=LIMIT, strip_ids=False, splice=splice)
    out = b""
    for piece in pieces_of(data, cut):
        out += relay.feed(piece)
        if relay.failure is not None or relay.done:
            break
    else:
        out += relay.end()
    return out, relay, splice


@given(TEXT, TEXT, st.integers(0, 40), st.booleans(), cuts(), cuts(), cuts())
def test_a_remade_answer_goes_on_exactly_where_it_repeats(
    answer: str, other: str, seam: int, same: bool, tokens: list[int], remade_tokens: list[int], network: list[int]
) -> None:
    sent = answer[:seam]
    assume(sent)
    remade = answer if same else other
    asked, delivered = ask(), Delivered(LIMIT)
    deliver(asked, delivered, *(says(piece) for piece in split(sent, tokens)))
    data = stream(says(role="assistant"), *(says(piece) for piece in split(remade, remade_tokens)), says(finish="stop"))
    out, relay, _ = go_on(asked, delivered, Method.REMAKE, data, network)
    if remade.startswith(sent):
        assert sent + text_of(read(out)) == remade
        assert relay.done
        assert out.endswith(DONE)
    else:
        assert relay.failure is Outcome.DEPARTED
        assert DONE not in out


@given(
    TEXT,
    st.integers(1, 40),
    st.booleans(),
    st.booleans(),
    cuts(),
    cuts(),
    cuts(),
)
@example("aaaa  bbbb", 6, False, True, [], [1, 2], [])
@example("ha ha ha ha ha ha ha ha ha", 17, False, False, [], [1, 2], [])
@example("ha ha ha ha ha ha ha ha ha", 3, True, False, [], [1, 2], [])
def test_a_prefilled_answer_goes_on_whether_the_engine_repeats_or_not(
    answer: str,
    seam: int,
    repeats: bool,
    last_with_text: bool,
    tokens: list[int],
    more: list[int],
    network: list[int],
) -> None:
    sent = answer[:seam]
    given_prefix = sent.rstrip()
    assume(given_prefix)
    made = answer[len(given_prefix) :]
    asked, delivered = ask(), Delivered(LIMIT)
    deliver(asked, delivered, *(says(piece) for piece in split(sent, tokens)))
    pieces = split(given_prefix + made if repeats else made, more) or [""]
    finish = [says(pieces.pop(), finish="stop")] if last_with_text else [says(finish="stop")]
    data = stream(says(role="assistant", content=""), *(says(piece) for piece in pieces), *finish)
    out, relay, _ = go_on(asked, delivered, Method.PREFILL, data, network, repeats=repeats)
    assert sent + text_of(read(out)) == answer
    assert relay.done


@given(TEXT, st.integers(1, 40), st.booleans(), cuts(), cuts())
def test_a_text_completion_is_prefilled_to_the_last_character(
    answer: str, seam: int, repeats: bool, tokens: list[int], more: list[int]
) -> None:
    sent, made = answer[:seam], answer[seam:]
    assume(sent)
    asked, delivered = ask(Endpoint.COMPLETIONS), Delivered(LIMIT)
    deliver(asked, delivered, *(writes(piece) for piece in split(sent, tokens)))
    data = stream(
        *(writes(piece) for piece in split(sent + made if repeats else made, more)), writes("", finish="stop")
    )
    out, relay, _ = go_on(asked, delivered, Method.PREFILL, data, repeats=repeats)
    assert sent + text_of(read(out)) == answer
    assert relay.done


@given(TEXT, st.integers(1, 40), cuts(), cuts(), cuts())
def test_an_exact_continuation_is_a_chat_again(
    answer: str, seam: int, tokens: list[int], more: list[int], network: list[int]
) -> None:
    sent, made = answer[:seam], answer[seam:]
    assume(sent)
    asked, delivered = ask(), Delivered(LIMIT)
    deliver(asked, delivered, *(says(piece) for piece in split(sent, tokens)))
    logprobs = {"content": []}
    events = [
        chunk(
            [{"index": 0, "text": piece, "finish_reason": None, "logprobs": logprobs}],
            id="two",
            object="text_completion",
        )
        for piece in split(made, more)
    ]
    data = stream(
        *events, chunk([{"index": 0, "text": "", "finish_reason": "stop"}], id="two", object="text_completion")
    )
    out, relay, _ = go_on(asked, delivered, Method.TOKENS, data, network)
    events_out = read(out)
    assert sent + text_of(events_out) == answer
    assert relay.done
    assert {event["id"] for event in events_out} == {"one"}
    assert {event["object"] for event in events_out} == {"chat.completion.chunk"}
    assert all("delta" in choice and "logprobs" not in choice for event in events_out for choice in event["choices"])


@given(st.lists(st.integers(0, 30), min_size=1, max_size=4), st.integers(1, 200), st.booleans(), cuts())
def test_seam_after_seam_is_one_answer(lengths: list[int], total: int, repeats: bool, tokens: list[int]) -> None:
    """Every attempt but the last is cut in its own middle; each goes on after the one before."""
    answer = "".join(chr(97 + number % 26) + " " * (number % 3 == 0) for number in range(total))
    asked, delivered = ask(), Delivered(LIMIT)
    place = lengths[0] + 1
    said = text_of(read(deliver(asked, delivered, *(says(piece) for piece in split(answer[:place], tokens)))))
    for number, length in enumerate([*lengths[1:], None]):
        prefix = said.rstrip()
        assume(prefix)
        method = Method.REMAKE if number % 2 else Method.PREFILL
        start = 0 if method is Method.REMAKE or repeats else len(prefix)
        last = length is None
        upto = len(answer) if last else min(len(said) + length, len(answer))
        payloads = [says(piece) for piece in split(answer[start:upto], tokens)]
        data = stream(*payloads, *([says(finish="stop")] if last else []), done=last)
        out, relay, _ = go_on(asked, delivered, method, data, repeats=repeats)
        said += text_of(read(out))
        assert answer.startswith(said)
        assert relay.done is last
    assert said == answer


ARGUMENTS = st.text(alphabet='{"a":1} é', max_size=20)


def calls(arguments: Sequence[str], places: Sequence[int], identity: str) -> list[Json]:
    """Return the tool-call fragments of an answer that calls one tool for each of these arguments."""
    fragments: list[Json] = []
    for number, text in enumerate(arguments):
        opening = {"name": f"tool{number}", "arguments": ""}
        fragments.append({"index": number, "id": f"{identity}{number}", "type": "function", "function": opening})
        fragments += [{"index": number, "function": {"arguments": piece}} for piece in split(text, places)]
    return fragments


def put_together(events: Sequence[Json]) -> dict[int, dict[str, str]]:
    """Return the tool calls as a client puts them together."""
    made: dict[int, dict[str, str]] = {}
    for event in events:
        for choice in event["choices"]:
            for fragment in choice["delta"].get("tool_calls") or ():
                call = made.setdefault(fragment["index"], {"id": "", "name": "", "arguments": ""})
                call["id"] += fragment.get("id") or ""
                call["name"] += fragment.get("function", {}).get("name") or ""
                call["arguments"] += fragment.get("function", {}).get("arguments") or ""
    return made


@given(st.lists(ARGUMENTS, min_size=1, max_size=3), st.integers(1, 12), cuts(), cuts(), st.booleans())
def test_a_tool_call_half_made_is_made_afresh_and_whole(
    arguments: list[str], seam: int, places: list[int], other_places: list[int], departs: bool
) -> None:
    first = calls(arguments, places, "call_a")
    sent = first[:seam]
    asked, delivered = ask(), Delivered(LIMIT)
    out = deliver(asked, delivered, *(says(tool_calls=[fragment]) for fragment in sent))
    remade = arguments
    if departs:
        began = put_together(read(out))
        assume(began[0]["arguments"])
        remade = ["!" + arguments[0], *arguments[1:]]
    again = calls(remade, other_places, "call_b")
    data = stream(*(says(tool_calls=[fragment]) for fragment in again), says(finish="tool_calls"))
    more, relay, _ = go_on(asked, delivered, Method.REMAKE, data)
    if departs:
        assert relay.failure is Outcome.DEPARTED
        return
    assert relay.done
    whole = put_together(read(out) + read(more))
    assert [whole[number]["arguments"] for number in range(len(arguments))] == arguments
    assert [whole[number]["name"] for number in range(len(arguments))] == [f"tool{n}" for n in range(len(arguments))]
    began = {fragment["index"] for fragment in sent}
    assert [whole[n]["id"] for n in whole] == [f"call_a{n}" if n in began else f"call_b{n}" for n in whole]


@given(st.lists(TEXT, min_size=2, max_size=4), st.data())
def test_several_choices_are_remade_side_by_side(answers: list[str], data: st.DataObject) -> None:
    asked, delivered = ask(n=len(answers)), Delivered(LIMIT)
    sent = [data.draw(st.integers(0, len(answer)), label="sent") for answer in answers]
    ended = [
        data.draw(st.booleans(), label="ended") and place == len(text)
        for place, text in zip(sent, answers, strict=True)
    ]
    assume(any(sent) and not all(ended))
    first = deliver(
        asked,
        delivered,
        *(
            says(text[:place], index=index)
            for index, (text, place) in enumerate(zip(answers, sent, strict=True))
            if place
        ),
        *(says(index=index, finish="stop") for index, over in enumerate(ended) if over),
    )
    events = [says(letter, index=index) for index, text in enumerate(answers) for letter in text]
    shuffled = sorted(range(len(events)), key=lambda place: (place * 7919) % 101)
    in_order: dict[int, list[bytes]] = {}
    for event in events:
        in_order.setdefault(json.loads(event)["choices"][0]["index"], []).append(event)
    queue = [json.loads(events[place])["choices"][0]["index"] for place in shuffled]
    mixed = [in_order[index].pop(0) for index in queue]
    whole = stream(*mixed, *(says(index=index, finish="length") for index in range(len(answers))))
    out, relay, _ = go_on(asked, delivered, Method.REMAKE, whole)
    assert relay.done
    heard = read(first) + read(out)
    assert [text_of(heard, index) for index in range(len(answers))] == answers
    finishes = [
        choice["finish_reason"] for event in heard for choice in event["choices"] if choice.get("finish_reason")
    ]
    assert len(finishes) == len(answers)


@given(
    st.integers(1, 30),
    st.integers(0, 30),
    st.integers(1, 50),
    st.sampled_from([Method.PREFILL, Method.TOKENS, Method.REMAKE]),
    st.integers(0, 100),
)
def test_usage_adds_up_across_a_seam(before: int, after: int, prompt: int, method: Method, cached: int) -> None:
    words = [chr(97 + number % 26) for number in range(before + after)]
    asked, delivered = ask(stream_options=USAGE), Delivered(LIMIT)
    deliver(asked, delivered, *(says(word) for word in words[:before]))
    again = method is Method.REMAKE
    shown = words if again else words[before:]
    make = writes if method is Method.TOKENS else says
    given_prompt = prompt if again else prompt + before
    details = {"cached_tokens": min(cached, given_prompt)}
    usage = counts(given_prompt, len(shown), prompt_tokens_details=details)
    data = stream(*(make(word) for word in shown), make("", finish="stop"), usage)
    out, relay, _ = go_on(asked, delivered, method, data, repeats=False)
    assert relay.done
    [reported] = [event["usage"] for event in read(out) if event.get("usage")]
    assert reported["prompt_tokens"] == prompt
    assert reported["completion_tokens"] == before + after
    assert reported["total_tokens"] == prompt + before + after
    assert reported["prompt_tokens_details"]["cached_tokens"] <= prompt
    assert relay.usage is not None
    assert relay.usage.tokens_in == given_prompt  # the books keep what this replica was made to do


ODD_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


PLACES = (
    *((name,) for name in ("id", "object", "created", "choices", "usage", "model", "error")),
    *(("usage", name) for name in ("prompt_tokens", "completion_tokens", "prompt_tokens_details")),
    *(("choices", 0, name) for name in ("index", "delta", "text", "finish_reason", "logprobs", "token_ids")),
    *(("choices", 0, "delta", name) for name in ("content", "role", "tool_calls", "reasoning", "function_call", "x")),
)


@given(
    st.lists(st.tuples(st.sampled_from(PLACES), ODD_JSON), min_size=1, max_size=2),
    st.sampled_from([None, *Method]),
    st.booleans(),
)
@example([(("usage", "prompt_tokens"), "x")], Method.PREFILL, True)
@example([(("usage",), 5)], Method.TOKENS, True)
def test_no_event_however_odd_breaks_the_relay(
    odd: list[tuple[tuple[str | int, ...], Any]], method: Method | None, usage: bool
) -> None:
    """It passes, fails or is ignored; what leaves is still a stream of JSON, whole only if it ended."""
    event: Any = json.loads(says("abc")) | {"usage": {"prompt_tokens": 1, "completion_tokens": 2}}
    for path, value in odd:
        place = event
        for key in path[:-1]:
            found = (
                place.get(key) if isinstance(place, dict) else place[key] if isinstance(place, list) and place else None
            )
            place = found if isinstance(found, dict | list) else {}
        if isinstance(place, dict):
            place[path[-1]] = value
    asked, delivered = ask(**({"stream_options": USAGE} if usage else {})), Delivered(LIMIT)
    if method is not None:
        deliver(asked, delivered, says("ab"))
    splice = Splice(delivered, asked.endpoint, method, repeats=True) if method is not None else None
    relay = Relay(asked, delivered, event_limit=LIMIT, strip_ids=method is None, splice=splice)
    out = relay.feed(stream(json.dumps(event).encode(), says("abc")))
    for payload in payloads_in(out):
        assert payload == b"[DONE]" or json.loads(payload) is not None
    finished = [one.finish_reason for one in delivered.choices.values()]
    assert (DONE in out) is relay.done
    assert not relay.done or (finished and None not in finished)
