"""One attempt's streamed bytes turned into what may leave for the client. Pure: bytes in, bytes out.

Events pass untouched, save what the client did not ask for (usage, token ids). The relay never lets an answer look
whole that is not: `[DONE]` leaves only after every choice has its finish reason. What the relay could not accept
stands in `failure`; what happens then is not its to decide.
"""

import re

import msgspec

from secondsource.core.records import Outcome
from secondsource.gateway.wire.delivered import Delivered
from secondsource.gateway.wire.event_shape import EventShape, shape_of
from secondsource.gateway.wire.events import (
    DONE,
    ChoiceDelta,
    Chunk,
    EventScanner,
    parse_chunk,
    parse_outline,
    parse_usage,
    payload_of,
)
from secondsource.gateway.wire.own_count import BYTES_PER_TOKEN
from secondsource.gateway.wire.request import Ask
from secondsource.gateway.wire.splice import DepartedError, Splice
from secondsource.gateway.wire.verdicts import BROKEN_OFF
from secondsource.policy.accounting import Usage

EVENTS_A_LESSON = 16  # a shape is looked for in at most so many, lest a stream of ever new ones cost more than it saves


class Relay:
    """The reader of one streamed attempt."""

    def __init__(
        self, ask: Ask, delivered: Delivered, *, event_limit: int, strip_ids: bool, splice: Splice | None
    ) -> None:
        self._ask = ask
        self._delivered = delivered
        delivered.begin_attempt()
        self._scanner = EventScanner(event_limit)
        self._strip_ids = strip_ids
        self._splice = splice
        self._held: list[bytes] = []  # events before the first that carries something of the answer
        self._unread: list[bytes] = []
        self._usage_sent = False
        self._plain: ChoiceDelta | None = None  # of the last event, where it passed plainly
        self._shape: EventShape | None = None
        self._lessons = 0
        self.usage: Usage | None = None  # the replica's own count
        self.tokens_out = 0  # our count: events that carried text
        self.may_skip = False  # the failure is one malformed event, which can be left out
        self.progressed = False  # an event has come since this was last cleared; comments are no progress
        self.done = False  # the answer is whole and `[DONE]` has been put out
        self.failure: Outcome | None = None
        self.detail = ""

    @property
    def complete(self) -> bool:
        """Return whether every choice has its finish reason."""
        return self._delivered.finished >= self._ask.choices

    def feed(self, data: bytes) -> bytes:
        """Return what may leave now; after it, look at `failure` and `done`."""
        events = self._scanner.feed(data)
        out = self._read(events) if events else b""
        if events and self._plain is not None:
            self._learn(events[-1], self._plain)
        if self._scanner.too_long and self.failure is None and not self.done:
            self._fail(Outcome.GARBLED, "an event without end")
        return out

    @property
    def shape(self) -> EventShape | None:
        """The shape of events that may take the short way now."""
        return None if self._scanner.holds or self.complete else self._shape

    def _learn(self, event: bytes, choice: ChoiceDelta) -> None:
        if self._shape is not None and self._shape.fits(event):
            return
        if self._lessons * EVENTS_A_LESSON <= self.tokens_out:
            self._lessons += 1
            self._shape = shape_of(event, choice.index, choice.plain_text or "", self._asked_for(event))

    def skip_malformed(self) -> bytes:
        """Go on after a malformed event, for want of another replica; returns what may leave now."""
        self.failure = None
        self.may_skip = False
        events, self._unread = self._unread, []
        return self._read(events)

    def end(self) -> bytes:
        """Note that the replica's message has ended; returns the last of the answer."""
        rest = self._scanner.rest()
        out = self._read([rest]) if rest and not self.done and self.failure is None else b""
        if self.may_skip:
            self.skip_malformed()  # half an event: the answer was cut there, or had ended before it
        if not self.done and self.failure is None:
            if self.complete:
                return out + self.close()
            self._fail(Outcome.CUT, "the stream ended without a finish reason")
        return out

    def close(self) -> bytes:
        """End a complete answer without waiting for the replica's own `[DONE]`."""
        self.done = True
        return self._owed_usage() + DONE

    def _read(self, events: list[bytes]) -> bytes:
        out: list[bytes] = []
        for number, event in enumerate(events):
            self._plain = None
            payload = payload_of(event)
            if payload is None or not payload.strip():
                continue
            self.progressed = True
            if payload == b"[DONE]":
                self._done(out)
            else:
                self._event(event, payload, out)
            if self.failure is not None:
                self._unread = events[number + 1 :]
                break
            if self.done:
                break
        return out[0] if len(out) == 1 else b"".join(out)

    def _done(self, out: list[bytes]) -> None:
        choices = self._delivered.choices.values()
        # A replica that makes fewer choices than were asked for is taken at its word; an unfinished choice is not.
        if choices and all(choice.finish_reason is not None for choice in choices):
            out.append(self.close())
        else:
            self._fail(Outcome.CUT, "[DONE] without a finish reason")

    def _event(self, event: bytes, payload: bytes, out: list[bytes]) -> None:
        unknown = False
        try:
            chunk = parse_chunk(payload)
            if self._passes_plainly(chunk):
                out.append((self._asked_for(event) if chunk.usage else event) + b"\n\n")
                return
        except msgspec.ValidationError:
            chunk, unknown = parse_outline(payload) or Chunk(), True
        except (msgspec.DecodeError, UnicodeDecodeError):
            # After the last finish reason it cannot have been a part of the answer.
            if payload.lstrip()[:1] == b"{" and not self.complete:
                self._fail(Outcome.GARBLED, "an event is not valid JSON")
                self.may_skip = True
            return
        if chunk.error and bytes(chunk.error) != b"null":
            self._fail(Outcome.ERROR_EVENT, bytes(chunk.error)[:500].decode("utf-8", "replace"))
            return
        if chunk.usage:
            self.usage = parse_usage(chunk.usage) or self.usage
        if unknown:
            self._unknown(event, chunk, out)
        elif self._splice is not None:
            self._spliced(self._splice, payload, chunk, out)
        else:
            self._pass(event, chunk, out)

    def _passes_plainly(self, chunk: Chunk) -> bool:
        """Take the commonplace event, more text of one choice, on the shortest way; false if it is not that."""
        choices = chunk.choices
        if not choices or len(choices) != 1 or chunk.error or self._strip_ids:
            return False
        if chunk.usage and bytes(chunk.usage) != b"null":
            return False
        choice = choices[0]
        text = choice.plain_text
        if text is None or self._splice is not None or not self._delivered.sent:
            return False
        if not self._delivered.add_text(choice.index, text):
            return False
        self.tokens_out += 1
        self._plain = choice
        return True

    def _asked_for(self, event: bytes) -> bytes:
        """Return a commonplace event as it leaves: OpenAI says `"usage":null` to those who asked for usage only."""
        return event if self._ask.include_usage else without(event, b"usage", b"null")

    def _unknown(self, event: bytes, chunk: Chunk, out: list[bytes]) -> None:
        """Pass on an event of a shape we do not know, which is not ours to judge; what it says cannot be kept."""
        if self._splice is not None:
            self._fail(Outcome.GARBLED, "an event of unknown shape in an answer that goes on from another")
            return
        if chunk.choices:
            self._delivered.forget()
            self._delivered.sent = True
            self._release(out)
        self._pass(event, chunk, out)

    def _spliced(self, splice: Splice, payload: bytes, chunk: Chunk, out: list[bytes]) -> None:
        repeated = splice.repeated
        try:
            rewritten = splice.feed(payload)
        except DepartedError:
            self._fail(Outcome.DEPARTED, "the answer made afresh differs from what was already sent")
            return
        self.tokens_out += _adds(chunk) + repeated - splice.repeated
        if rewritten is not None:
            self._pass(b"data: " + rewritten, parse_chunk(rewritten), out, count=False)

    def _pass(self, event: bytes, chunk: Chunk, out: list[bytes], *, count: bool = True) -> None:
        evidence: dict[int, bytes] = {}
        finishing = False
        for choice in chunk.choices or ():
            if choice.finish_reason in BROKEN_OFF:
                self._fail(Outcome.CUT, f"finish_reason {choice.finish_reason}")
                return
            finishing = finishing or choice.finish_reason is not None
            if self._strip_ids:
                raw = bytes(choice.token_ids or choice.logprobs)
                if raw and raw != b"null":
                    evidence[choice.index] = raw
        if self._strip_ids and (evidence or chunk.prompt_token_ids):
            event = self._without_ids(event, chunk)
        if chunk.usage and not self._ask.include_usage:
            if not chunk.choices and bytes(chunk.usage) != b"null":
                return
            event = without(event, b"usage", bytes(chunk.usage))
        elif chunk.usage and bytes(chunk.usage) != b"null":
            self._usage_sent = True
        delivered = self._delivered
        added = _adds(chunk)
        if count:
            self.tokens_out += added
        event += b"\n\n"
        if delivered.sent or added or finishing:
            delivered.add(chunk, evidence)
            if not delivered.sent:
                delivered.sent = True
                self._release(out)
            out.append(event)
        else:
            delivered.note_ids(evidence)
            self._held.append(event)

    def _release(self, out: list[bytes]) -> None:
        out += self._held
        self._held = []

    def _without_ids(self, event: bytes, chunk: Chunk) -> bytes:
        if chunk.prompt_token_ids:
            self._delivered.prompt_token_ids = msgspec.json.decode(chunk.prompt_token_ids, type=list[int] | None)
            event = without(event, b"prompt_token_ids", bytes(chunk.prompt_token_ids))
        for choice in chunk.choices or ():
            if choice.token_ids:
                event = without(event, b"token_ids", bytes(choice.token_ids))
            elif choice.logprobs:
                event = without(event, b"logprobs", bytes(choice.logprobs))
        return event

    def _owed_usage(self) -> bytes:
        """Return a usage event of our own count when the client asked and the replica gave none."""
        if not self._ask.include_usage or self._usage_sent:
            return b""
        return usage_event(self._ask, self._delivered)

    def _fail(self, outcome: Outcome, detail: str) -> None:
        self.failure = outcome
        self.detail = detail


def usage_event(ask: Ask, delivered: Delivered) -> bytes:
    """Return a usage event of our own count, for a prompt that no replica has counted."""
    prompt = ask.body_length // BYTES_PER_TOKEN
    event: dict[str, object] = {
        "id": delivered.id,
        "object": delivered.object,
        "created": delivered.created,
        "model": ask.model,
        "choices": [],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": delivered.tokens,
            "total_tokens": prompt + delivered.tokens,
        },
    }
    return b"data: " + msgspec.json.encode(event) + b"\n\n"


def finish_event(ask: Ask, delivered: Delivered, reason: str) -> bytes:
    """Return the event that ends the one choice of an answer, for one cut after its last token."""
    choice: dict[str, object] = {"index": 0, "finish_reason": reason}
    if delivered.object == "text_completion":
        choice["text"] = ""
    else:
        choice["delta"] = {}
    event: dict[str, object] = {
        "id": delivered.id,
        "object": delivered.object,
        "created": delivered.created,
        "model": ask.model,
        "choices": [choice],
    }
    return b"data: " + msgspec.json.encode(event) + b"\n\n"


def _adds(chunk: Chunk) -> int:
    return sum([choice.adds for choice in chunk.choices or ()])


def without(event: bytes, name: bytes, value: bytes) -> bytes:
    """Return an event's bytes without one member, whatever the white space around it."""
    for before, after in ((b',"', b'":'), (b', "', b'": ')):
        shorter = event.replace(before + name + after + value, b"", 1)
        if len(shorter) != len(event):
            return shorter
    for key in re.finditer(rb'(\s*,)?\s*"' + name + rb'"\s*:\s*', event):
        if event.startswith(value, key.end()):
            rest = event[key.end() + len(value) :]
            return event[: key.start()] + (rest if key[1] else re.sub(rb"^\s*,", b"", rest))
    return event
