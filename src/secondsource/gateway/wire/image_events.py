"""A streamed image: partial images passed on as they come, and the stream's end told from a break.

OpenAI's events are `image_generation.partial_image` and, once for each image, `image_generation.completed`; an engine
that speaks otherwise is passed on as it is, and taken to be whole when its message ends well.
"""

from typing import Any

import msgspec

from secondsource.core.records import Outcome
from secondsource.gateway.wire.events import MOST_TOKENS, EventScanner, payload_of
from secondsource.policy.accounting import Usage

PARTIAL = "image_generation.partial_image"
COMPLETED = "image_generation.completed"
_NOTHING = msgspec.Raw(b"")


class _Event(msgspec.Struct, gc=False, frozen=True):
    type: str = ""
    error: msgspec.Raw = _NOTHING
    usage: msgspec.Raw = _NOTHING


class _Details(msgspec.Struct, gc=False, frozen=True):
    cached_tokens: int | None = None


class _ImageUsage(msgspec.Struct, gc=False, frozen=True):
    input_tokens: int = 0
    output_tokens: int = 0
    input_tokens_details: _Details | None = None


_event = msgspec.json.Decoder(_Event)
_usage = msgspec.json.Decoder(_ImageUsage)


class ImageRelay:
    """The reader of one streamed attempt at images; it has what an attempt asks of `Relay`."""

    def __init__(self, images: int, limit: int) -> None:
        self._images = images
        self._limit = limit
        self._scanner = EventScanner(limit)
        self._size = 0
        self._partial = 0
        self._completed = 0
        self._events = 0
        self.usage: Usage | None = None
        self.tokens_out = 0  # our own count, which images have not
        self.may_skip = False
        self.progressed = False
        self.done = False
        self.failure: Outcome | None = None
        self.detail = ""

    @property
    def complete(self) -> bool:
        """Return whether every image has come."""
        return self._completed >= self._images

    def feed(self, data: bytes) -> bytes:
        """Return what may leave now; after it, look at `failure` and `done`."""
        self._size += len(data)
        out = self._read(self._scanner.feed(data))
        if (self._scanner.too_long or self._size > self._limit) and self.failure is None and not self.done:
            self._fail(Outcome.GARBLED, f"a stream of more than {self._limit} bytes")
        return out

    def skip_malformed(self) -> bytes:
        """Go on after a malformed event: it is never left out, as it may have been an image."""
        self.may_skip = False
        return b""

    def end(self) -> bytes:
        """Note that the replica's message has ended; returns the last of the answer."""
        rest = self._scanner.rest()
        out = self._read([rest]) if rest and not self.done and self.failure is None else b""
        if self.failure is None and not self.done:
            unknown = self._events and not self._partial and not self._completed
            if self._completed or unknown:  # a replica that makes fewer than were asked for is taken at its word
                self.done = True
            else:
                self._fail(Outcome.CUT, "the stream ended without an image")
        return out

    def close(self) -> bytes:
        """End a complete answer without waiting for the end of the replica's message."""
        self.done = True
        return b""

    def _read(self, events: list[bytes]) -> bytes:
        out: list[bytes] = []
        for event in events:
            payload = payload_of(event)
            if self.done or self.failure is not None or payload is None or not payload.strip():
                continue
            self.progressed = True
            if payload != b"[DONE]":
                self._take(payload)
            elif not self._completed:
                self._fail(Outcome.CUT, "[DONE] without an image")
            else:
                self.done = True
            if self.failure is None:
                out.append(event + b"\n\n")
        return b"".join(out)

    def _take(self, payload: bytes) -> None:
        try:
            event = _event.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._fail(Outcome.GARBLED, "an event is not a JSON object")
            return
        if (event.error and bytes(event.error) != b"null") or event.type == "error":
            self._fail(Outcome.ERROR_EVENT, bytes(event.error or payload)[:500].decode("utf-8", "replace"))
            return
        self._events += 1
        self._partial += event.type == PARTIAL
        self._completed += event.type == COMPLETED
        if event.usage:
            self.usage = parse_image_usage(event.usage) or self.usage

    def _fail(self, outcome: Outcome, detail: str) -> None:
        self.failure, self.detail = outcome, detail


def parse_image_usage(raw: bytes | msgspec.Raw) -> Usage | None:
    """Return the tokens of an image answer's usage, or None when it has none or it cannot be true."""
    try:
        report = _usage.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    details = report.input_tokens_details
    cached = (details.cached_tokens or 0) if details is not None else 0
    if min(report.input_tokens, report.output_tokens, cached) < 0 or cached > report.input_tokens:
        return None
    if max(report.input_tokens, report.output_tokens) > MOST_TOKENS or not report.input_tokens + report.output_tokens:
        return None
    return Usage(report.input_tokens, cached, report.output_tokens)


Json = dict[str, Any]  # the answer's own JSON: every key that we do not know is kept


def as_image_events(body: bytes) -> bytes:
    """Return a whole answer as events, for a replica that does not stream; raises msgspec.DecodeError."""
    answer: Json = msgspec.json.decode(body, type=Json)
    images = msgspec.convert(answer.pop("data", None), list[Json])
    answer["created_at"] = answer.pop("created", 0)
    usage = {"usage": answer.pop("usage")} if "usage" in answer else {}
    last = len(images) - 1
    completed = [
        {**answer, **image, "type": COMPLETED, **(usage if number == last else {})}
        for number, image in enumerate(images)
    ]
    return b"".join(b"event: %b\ndata: %b\n\n" % (COMPLETED.encode(), msgspec.json.encode(one)) for one in completed)


def as_whole_answer(stream: bytes) -> bytes:
    """Return a stream's finished images as one answer that is not streamed, for a client that asks for its job."""
    images: list[Json] = []
    whole: Json = {"created": 0}
    scanner = EventScanner(len(stream) + 1)
    for event in scanner.feed(stream):
        payload = payload_of(event)
        if payload is None or COMPLETED.encode() not in payload[:4096] + payload[-4096:]:
            continue
        told = msgspec.json.decode(payload, type=Json)
        if told.pop("type", None) != COMPLETED:
            continue
        whole["created"] = told.pop("created_at", 0)
        images.append({key: told.pop(key) for key in ("b64_json", "url", "revised_prompt") if key in told})
        whole |= told
    return msgspec.json.encode({**whole, "data": images})
