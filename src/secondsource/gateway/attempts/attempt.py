"""One try of one request at one replica: reserved in the books, sent, read, and settled whatever happens."""

import asyncio
import time
from typing import Protocol

import msgspec

from secondsource.core.records import Noted, Outcome, Settled
from secondsource.gateway.attempts import habit, preparation
from secondsource.gateway.attempts.account import Account
from secondsource.gateway.attempts.plan import Plan
from secondsource.gateway.attempts.preparation import REFUSING
from secondsource.gateway.fast_path import BackOff, ChunkWriter, FastPath
from secondsource.gateway.upstream import Call, FetchError, Headers
from secondsource.gateway.wire import own_count, verdicts
from secondsource.gateway.wire.continuation import Method
from secondsource.gateway.wire.delivered import Delivered
from secondsource.gateway.wire.events import parse_usage
from secondsource.gateway.wire.image_events import ImageRelay, as_image_events, parse_image_usage
from secondsource.gateway.wire.relay import Relay
from secondsource.gateway.wire.request import Endpoint
from secondsource.gateway.wire.splice import Splice
from secondsource.gateway.wire.unstreamed import as_events

COMPLETE_GRACE_S = 0.5  # for `[DONE]` and usage, once every choice has its finish reason
SAYS_NOTHING = frozenset({Outcome.CLIENT_GONE, Outcome.TOTAL_TIMEOUT, Outcome.UNPLUGGED, Outcome.INTERRUPTED})
ALIVE = frozenset(
    {
        Outcome.OK,
        Outcome.CALLER_ERROR,
        Outcome.CONTEXT_OVERFLOW,
        Outcome.PREFILL_REFUSED,
        Outcome.DEPARTED,
        Outcome.NOT_OFFERED,
    }
)


class Owner(Protocol):
    """The exchange that an attempt belongs to."""

    delivered: Delivered
    deadline: float

    def attempt_streams(self, attempt: "Attempt", data: bytes, *, last: bool) -> None:
        """Take bytes that may leave for the client."""

    def attempt_answered(self, attempt: "Attempt", body: bytes) -> None:
        """Take a whole answer."""

    def attempt_failed(self, attempt: "Attempt", outcome: Outcome) -> None:
        """Take a failure; the attempt is settled."""

    def chunk_writer(self) -> ChunkWriter | None:
        """Return where chunks may be written as they came, or None where an answer does not leave in chunks."""

    def could_go_on_elsewhere(self) -> bool:
        """Return whether another replica could go on now."""

    def wait_for_more(self, seconds: float) -> float:
        """Set the deadline for the replica's next sign, and return what time it is."""

    def write(self, record: Noted | Settled) -> None:
        """Write a record of this attempt to the books."""


class Attempt:
    """An attempt under way, and the handler of its call's answer."""

    def __init__(self, owner: Owner, plan: Plan) -> None:
        self.owner = owner
        self.plan = plan
        self.account = Account(plan, owner.delivered, owner.write)
        self.status = 0
        self.headers: Headers = {}
        self.body = b""
        self.detail = ""
        self.retry_after: float | None = None
        self.behind_s = 0.0  # that its replica was still to be reading others' prompts when it was sent
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._call: Call | None = None
        self._preparing: asyncio.Task[None] | None = None
        self._relay: Relay | ImageRelay | None = None
        self._splice: Splice | None = None
        self._strips_ids = False
        self._back_off = BackOff(plan.ask.choices)
        self._paused = False
        self._unread = plan.ask.body_length if plan.ask.stream else 0  # bytes
        self._trial = 0
        self._over = False

    # -- sending

    def start(self) -> None:
        """Send the request; the books have its reservation."""
        replica = self.plan.replica
        self.behind_s = replica.sent(self._unread, time.monotonic())
        self._trial = replica.circuit.sent()
        self.account.start()
        if preparation.needed(self.plan):
            self._preparing = asyncio.get_running_loop().create_task(self._prepare())
        else:
            body, self._strips_ids = preparation.own_words(self.plan, self.owner.delivered)
            self._send(self.plan.ask.path, body)

    def _send(self, path: str, body: bytes) -> None:
        plan = self.plan
        if plan.method is not None:
            if plan.continues:
                self.account.goes_on()
            self._splice = Splice(
                self.owner.delivered,
                plan.ask.endpoint,
                plan.method,
                repeats=habit.repeats(plan.ask.endpoint, plan.method, plan.replica) is True,
            )
        extra = plan.forwarded + b"x-request-id: %b\r\n" % plan.reserved.attempt_id.encode()
        if plan.ask.stream:
            extra += b"accept: text/event-stream\r\n"
        request = plan.client.target.request(b"POST", path.encode(), body, extra)
        self._call = call = plan.client.call(request, self)
        if self._paused:
            call.pause(paused=True)

    async def _prepare(self) -> None:
        """Find out what has to be known of the replica, then send."""
        try:
            path, body, self._strips_ids = await preparation.prepare(self.plan, self.owner.delivered)
        except FetchError as error:
            self._fail(error.outcome, error.detail)
        else:
            self._send(path, body)

    # -- reading

    def on_head(self, status: int, headers: Headers) -> None:
        """Take the head of the answer, and decide whether its body is relayed or gathered."""
        self.status, self.headers = status, headers
        if headers.get(b"content-encoding", b"identity") != b"identity":
            self._fail(Outcome.GARBLED, "an encoding that was not asked for")
            return
        json = headers.get(b"content-type", b"").startswith(b"application/json")
        if status == 200 and self.plan.ask.stream and not json:
            self._relay = self._make_relay(self.plan.event_limit)

    def _make_relay(self, event_limit: int) -> Relay | ImageRelay:
        if self.plan.ask.endpoint is Endpoint.IMAGES:
            return ImageRelay(self.plan.ask.choices, self.plan.body_limit)
        return Relay(
            self.plan.ask,
            self.owner.delivered,
            event_limit=event_limit,
            strip_ids=self._strips_ids,
            splice=self._splice,
        )

    def on_body(self, data: bytes) -> None:
        """Take bytes of the body."""
        relay = self._relay
        if relay is not None:
            self._relayed(relay, relay.feed(data))
            if isinstance(relay, Relay) and self._call is not None:
                self._offer_fast_path(relay, self._call)
            return
        self._body_bytes += len(data)
        if self._body_bytes > self.plan.body_limit:
            self._fail(Outcome.GARBLED, f"an answer of more than {self.plan.body_limit} bytes")
        else:
            self._body.append(data)

    def _offer_fast_path(self, relay: Relay, call: Call) -> None:
        shape, offered = relay.shape, call.fast_path
        if shape is None:
            call.fast_path = None
        elif offered is None or offered.shape is not shape:
            writer = self.owner.chunk_writer()
            if writer is not None:
                call.fast_path = FastPath(
                    shape,
                    relay,
                    self.owner.delivered,
                    writer,
                    self.owner,
                    self.account,
                    between_tokens_s=self.plan.between_tokens_s,
                    event_limit=self.plan.event_limit,
                    back_off=self._back_off,
                    pump=self.plan.pump,
                )

    def on_end(self) -> None:
        """Note that the answer's message is whole."""
        if self._relay is not None:
            self._relayed(self._relay, self._relay.end())
            return
        self.body = b"".join(self._body)
        self._gathered(self.body)

    def on_failed(self, outcome: Outcome, detail: str) -> None:
        """Note that the call failed; a complete answer does not need its message to end well."""
        if self._relay is not None and self._relay.complete and not self._relay.done:
            self._relayed(self._relay, self._relay.end())
            return
        self._fail(outcome, detail)

    def _relayed(self, relay: Relay | ImageRelay, data: bytes) -> None:
        while relay.may_skip and not self.owner.could_go_on_elsewhere():
            # One malformed event is no reason to lose the rest when nobody else could give it.
            data += relay.skip_malformed()
        if data:
            if self.account.first_token_ns == 0:
                self.account.first_token()
                self.plan.replica.circuit.succeeded(self._trial)
                self._unread = self.plan.replica.has_read(self._unread, time.monotonic())
            self.owner.attempt_streams(self, data, last=relay.done)
        if self._over:
            return
        if relay.failure is not None:
            self._fail(relay.failure, relay.detail)
        elif relay.done:
            if not data:
                self.owner.attempt_streams(self, b"", last=True)
            self._end(Outcome.OK)
        elif relay.progressed:
            relay.progressed = False
            if relay.complete:
                self.owner.wait_for_more(COMPLETE_GRACE_S)
            elif self.owner.delivered.sent:
                now = self.owner.wait_for_more(self.plan.between_tokens_s)
                if now >= self.account.note_at:
                    self.account.note(relay, now)

    def _gathered(self, body: bytes) -> None:
        outcome = verdicts.outcome_of(self.status, body)
        if outcome is Outcome.OK:
            outcome = self._whole(body)
        elif outcome in (Outcome.THROTTLED, Outcome.SERVER_ERROR):
            self.retry_after = verdicts.retry_after_s(self.headers, time.time())
        if outcome is not Outcome.CONTEXT_OVERFLOW and self.plan.continues and self.status in REFUSING:
            outcome = Outcome.PREFILL_REFUSED
        if outcome is Outcome.OK and self.plan.ask.stream:
            self._stream_whole(body)
        elif outcome is Outcome.OK:
            self.account.first_token()
            self.owner.attempt_answered(self, body)
            self._end(Outcome.OK)
        else:
            self._fail(outcome, self.detail or f"HTTP {self.status}")

    def _stream_whole(self, body: bytes) -> None:
        """Stream the answer of a replica that does not stream."""
        try:
            events = as_image_events(body) if self.plan.ask.endpoint is Endpoint.IMAGES else as_events(body)
        except msgspec.DecodeError:
            self._fail(Outcome.GARBLED, "neither a stream nor an answer with choices")
            return
        self._relay = relay = self._make_relay(self.plan.body_limit)
        self._relayed(relay, relay.feed(events) + relay.end())

    def _whole(self, body: bytes) -> Outcome:
        """Judge an answer of status 200: it must be JSON, report no error, and not have been broken off."""
        images = self.plan.ask.endpoint is Endpoint.IMAGES
        if images and b"event-stream" in self.headers.get(b"content-type", b""):
            return Outcome.OK  # in stages, though nobody asked for that: passed on whole
        try:
            answer = verdicts.parse_answer(body)
        except msgspec.ValidationError:
            self.detail = "the answer is not a JSON object"
            return Outcome.GARBLED
        except (msgspec.DecodeError, UnicodeDecodeError):
            self.detail = "the answer is not JSON"
            return Outcome.GARBLED
        if answer.error and bytes(answer.error) != b"null":
            self.detail = "an error with HTTP status 200"
            return Outcome.SERVER_ERROR
        self.account.usage = parse_image_usage(answer.usage) if images else parse_usage(answer.usage)
        self.account.own_count = own_count.of_whole(self.account.usage, len(body), answer.choices)
        if verdicts.broken_off(answer):
            self.detail = "the replica broke the answer off"
            return Outcome.CUT
        return Outcome.OK

    # -- ending

    def deadline_passed(self, outcome: Outcome) -> None:
        """Note that the replica's time is up."""
        if self.catch_up() and outcome is not Outcome.TOTAL_TIMEOUT:
            return  # there were signs of it, and they have set another deadline
        relay = self._relay
        if outcome is not Outcome.TOTAL_TIMEOUT and relay is not None and relay.complete and not relay.done:
            self._relayed(relay, relay.close())
        elif outcome is Outcome.TOTAL_TIMEOUT:
            self._fail(outcome, "the request's whole time is up")
        elif self.account.first_token_ns:
            self._fail(Outcome.STALLED, "the stream stalled")
        else:
            self._fail(Outcome.FIRST_TOKEN_TIMEOUT, "no token in time")

    def unplugged(self) -> None:
        """Leave the replica: the operator took its supplier away."""
        self._fail(Outcome.UNPLUGGED, "its plug was pulled")

    def client_gone(self) -> None:
        """Leave the replica: nobody wants the answer any more."""
        self._end(Outcome.CLIENT_GONE)

    def interrupted(self) -> None:
        """Leave the replica: this process stops."""
        self._end(Outcome.INTERRUPTED)

    def catch_up(self) -> bool:
        """Have what has been passed on unseen noted; returns whether there was anything."""
        return self._call is not None and self._call.catch_up()

    def pause(self, *, paused: bool) -> None:
        """Hold the replica back while the client does not keep up."""
        self._paused = paused
        if self._call is not None:
            self._call.pause(paused=paused)

    @property
    def progressed(self) -> bool:
        """Return whether the client has got a part of the answer from this attempt."""
        return self.account.first_token_ns > 0

    def _fail(self, outcome: Outcome, detail: str) -> None:
        if self._over:
            return
        self.detail = detail
        self._end(outcome)
        self.owner.attempt_failed(self, outcome)

    def _end(self, outcome: Outcome) -> None:
        """Settle: the replica's state, the books, the connection."""
        if self._over:
            return
        self._over = True
        if self._call is not None:
            if outcome is Outcome.OK:
                self._call.leave()
            else:
                self._call.abort()
            self._call = None
        if self._preparing is not None and self._preparing is not asyncio.current_task():
            self._preparing.cancel()
        self._update_replica(outcome)
        self.account.settle(outcome, self.status, self._relay, self.body)

    def _update_replica(self, outcome: Outcome) -> None:
        replica = self.plan.replica
        replica.in_flight -= 1
        replica.reading.left(self._unread, time.monotonic())
        now = time.monotonic()
        if outcome in ALIVE:
            replica.circuit.succeeded(self._trial)
        elif outcome is Outcome.THROTTLED:
            replica.circuit.throttled(self.retry_after, now, self._trial)
        elif outcome in SAYS_NOTHING:
            replica.circuit.abandoned(self._trial)
        else:
            replica.circuit.failed(outcome, now, self._trial)
            if self.retry_after is not None:
                replica.circuit.throttled(self.retry_after, now)
        if outcome is Outcome.PREFILL_REFUSED:
            replica.state.continuation_refused(exact=self.plan.method is Method.TOKENS)
