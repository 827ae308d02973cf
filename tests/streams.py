"""Streamed answers as replicas write them, and what a client makes of them: for tests of the wire."""

import json
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

from secondsource.gateway.wire.request import Ask, Endpoint, parse_request

DONE = b"data: [DONE]\n\n"
Json = dict[str, Any]


def ask(endpoint: Endpoint = Endpoint.CHAT, **parameters: Any) -> Ask:
    """Return a streaming request with these parameters."""
    body: Json = {"model": "chat", "stream": True}
    if endpoint is Endpoint.CHAT:
        body["messages"] = [{"role": "user", "content": "Hello"}]
    else:
        body["prompt"] = "Once"
    return parse_request(endpoint, json.dumps(body | parameters).encode())


def chunk(choices: Sequence[Json], **members: Any) -> bytes:
    """Return an event's JSON."""
    whole: Json = {"id": "one", "object": "chat.completion.chunk", "created": 7, "model": "m", "choices": choices}
    return json.dumps(whole | members).encode()


def says(content: str | None = None, *, index: int = 0, finish: str | None = None, **delta: Any) -> bytes:
    """Return the JSON of an event of a chat that adds this."""
    added = delta if content is None else {"content": content, **delta}
    return chunk([{"index": index, "delta": added, "finish_reason": finish}])


def writes(text: str, *, index: int = 0, finish: str | None = None) -> bytes:
    """Return the JSON of an event of a text completion that adds this."""
    return chunk([{"index": index, "text": text, "finish_reason": finish}], object="text_completion")


def counts(tokens_in: int, tokens_out: int, **members: Any) -> bytes:
    """Return the JSON of the event that reports usage."""
    usage = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out}
    return chunk([], usage=usage | members)


def stream(*payloads: bytes, done: bool = True, end: bytes = b"\n\n") -> bytes:
    """Return events as bytes."""
    return b"".join(b"data: " + payload + end for payload in (*payloads, *([b"[DONE]"] if done else [])))


def payloads_in(data: bytes) -> list[bytes]:
    """Return the data of each event that a client reads."""
    return [event.removeprefix(b"data: ") for event in data.split(b"\n\n") if event]


def read(data: bytes) -> list[Json]:
    """Return what a client reads, without `[DONE]`."""
    return [json.loads(payload) for payload in payloads_in(data) if payload != b"[DONE]"]


def text_of(events: Iterable[Json], index: int = 0) -> str:
    """Return a choice's text as a client puts it together."""
    said = ""
    for event in events:
        for choice in event["choices"]:
            if choice.get("index", 0) == index:
                said += choice["text"] if "text" in choice else choice["delta"].get("content") or ""
    return said


def pieces_of(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    """Return bytes cut at these places."""
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(places)]


def cuts() -> st.SearchStrategy[list[int]]:
    """Return a strategy of places at which a network cuts a stream."""
    return st.lists(st.integers(0, 3000), max_size=30)
