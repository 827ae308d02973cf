"""One request's life: it asks policy where to go, makes attempts one after another, and answers its client once.

start ──► waiting ◄──► attempt ──► answered
                         │  fails: policy says pass on, again, or give up
                         └──► next attempt: clean restart, continuation, or made afresh and spliced in
"""

import math
import time

import msgspec

from secondsource.core.fleet import Limits, Pool, Timeouts
from secondsource.core.records import Kind, LedgerRecord, Noted, Outcome, Reserved, Settled
from secondsource.gateway.attempts.attempt import Attempt
from secondsource.gateway.attempts.plan import Plan
from secondsource.gateway.authentication import Principal
from secondsource.gateway.books.journal import JournalError
from secondsource.gateway.client import Lines
from secondsource.gateway.deadlines import Deadlines
from secondsource.gateway.fast_path import ChunkWriter
from secondsource.gateway.pump.pump import Pump
from secondsource.gateway.recipient import Recipient
from secondsource.gateway.tracing import RequestTrace
from secondsource.gateway.upstream import ReplicaClient
from secondsource.gateway.wire import continuation
from secondsource.gateway.wire.continuation import Method
from secondsource.gateway.wire.delivered import Delivered, tokens_made
from secondsource.gateway.wire.errors import error_body, error_event
from secondsource.gateway.wire.events import DONE
from secondsource.gateway.wire.relay import finish_event, usage_event
from secondsource.gateway.wire.request import Ask, Endpoint
from secondsource.policy.expectation import Expected, Size
from secondsource.policy.failover import Failover, Next, Verdict
from secondsource.policy.fair_queue import Ticket
from secondsource.policy.limits import Reservation
from secondsource.policy.replica import Replica
from secondsource.policy.routing import Need, Wait

LONGEST_POLL_S = 0.25  # while waiting, look again at least this often: a replica may have become free
STATUS = {
    Outcome.THROTTLED: 429,
    Outcome.FIRST_TOKEN_TIMEOUT: 504,
    Outcome.TOTAL_TIMEOUT: 504,
    Outcome.STALLED: 504,
    Outcome.CONNECT_FAILED: 503,
}
EVENT_STREAM = b"text/event-stream; charset=utf-8"


class Surroundings(msgspec.Struct, frozen=True):
    """What every exchange of a service shares."""

    clients: dict[Replica, ReplicaClient]
    made_at: dict[str, Lines]  # by pool: the headers that tell a client where its answer was made
    timeouts: Timeouts
    limits: Limits
    deadlines: Deadlines
    pump: Pump | None = None  # where there is one


def made_at(pool: Pool) -> Lines:
    """Return the headers that tell a client where its answer was made."""
    return [
        (b"x-secondsource-pool", pool.name.encode()),
        (b"x-secondsource-supplier", pool.supplier.encode()),
        (b"x-secondsource-chip", pool.chip.encode()),
    ]


def made_here(reserved: Reserved) -> bytes:
    """Return the comment of an event stream that says where what follows it is made; clients pass over comments."""
    told = {
        "attempt": reserved.number,
        "kind": reserved.kind.value,
        "pool": reserved.pool,
        "supplier": reserved.supplier,
        "chip": reserved.chip,
    }
    return b": secondsource " + msgspec.json.encode(told) + b"\n\n"


class Observer:
    """What the service wants to know of an exchange."""

    def write(self, record: LedgerRecord, reserved: Reserved) -> None:
        """Take a record for the books; raises JournalError when a reservation cannot be written."""

    def found_full(self, model: str) -> None:
        """Note that a request which was let in finds no replica now, and looks again."""

    def began(self, exchange: "Exchange") -> None:
        """Note that the first bytes of a stream have gone to its client."""

    def attempt_ended(self, exchange: "Exchange", attempt: Attempt, settled: Settled) -> None:
        """Note what became of an attempt, once the books have it."""

    def ended(self, exchange: "Exchange", status: int) -> None:
        """Note that a request has been answered, or its client has left (499)."""


class Exchange:
    """A request to be answered by replicas."""

    def __init__(
        self,
        connection: Recipient,
        ask: Ask,
        principal: Principal,
        request_id: str,
        forwarded: bytes,
        failover: Failover,
        surroundings: Surroundings,
        observer: Observer,
    ) -> None:
        self.ask = ask
        self.principal = principal
        self.request_id = request_id
        self.delivered = Delivered(surroundings.limits.kept)
        self.started = time.monotonic()
        self._deadlines = surroundings.deadlines
        self._deadline = math.inf
        self.waiting = False
        self.size = Size(ask.body_length)
        self.expected = Expected(0, 0.0, 0.0)
        self.ticket: Ticket | None = None  # its place in its model's queue
        self.reservation: Reservation | None = None  # of what its key may use
        self.told: Lines = []  # headers about its key's limits
        self.refusal = ""  # why it was sent away
        self.over_share = False  # an attempt broke its supplier's soft cap
        self.first_token_s = 0.0
        self.traceparent: str | None = None  # as the client gave it
        self.trace: RequestTrace | None = None  # where traces are on
        self.tells = False  # says in comments of the stream where each piece of it is made
        self.attempts: list[str] = []  # what became of each attempt, for the error and for a look inside
        self.booked: list[tuple[Reserved, Settled]] = []  # the same, as the books have it
        self.last: Attempt | None = None
        self._connection = connection
        self._forwarded = forwarded
        self._failover = failover
        self._surroundings = surroundings
        self._observer = observer
        self._attempt: Attempt | None = None
        self._wait_ends = 0.0
        self._streaming = False
        self._told: Attempt | None = None
        self._client_paused = False
        self._over = False
        self._total_ends = self.started + surroundings.timeouts.total

    @property
    def deadline(self) -> float:
        """When `deadline_passed` is to be called (monotonic seconds)."""
        return self._deadline

    @deadline.setter
    def deadline(self, deadline: float) -> None:
        self._deadline = deadline
        self._deadlines.set(deadline)

    # -- finding a replica

    def expect(self, need: Need) -> None:
        """Take what the request is expected to need of a replica."""
        self._failover.need = need

    def start(self) -> None:
        """Send the request to its first replica, or wait for one."""
        self._go(self._failover.first(time.monotonic()))  # it may have waited for its turn

    def _go(self, found: Next | Wait | None) -> None:
        now = time.monotonic()
        if isinstance(found, Next):
            self.waiting = False
            self._try(found)
        elif found is None:
            self._give_up(None)
        else:
            if not self.waiting:
                self.waiting = True
                self._observer.found_full(self.ask.model)
                self._wait_ends = min(now + self._surroundings.timeouts.first_token, self._total_ends)
            if now >= self._wait_ends or found.until > self._wait_ends:
                self._give_up(found)
            else:
                self.deadline = min(max(found.until, now), now + LONGEST_POLL_S, self._wait_ends)

    def _look_again(self, now: float) -> None:
        if self.last is None:
            self._go(self._failover.first(now))
        else:
            self._go_on(now)

    def _go_on(self, now: float) -> None:
        """Find the next attempt of an answer that was cut, or of a request that no replica has answered yet."""
        sent = self.delivered.sent
        can = sent and continuation.continuable(self.ask, self.delivered)
        if can and self._at_limit():
            self._finish_at_limit()
        elif sent and not self.delivered.comparable:
            self._give_up(None)  # neither continued nor made afresh without saying twice what was said
        else:
            self._go(self._failover.choose(now, sent=sent, continuable=can))

    def could_go_on_elsewhere(self) -> bool:
        """Return whether another replica could go on with the answer now."""
        if self.delivered.sent and not continuation.continuable(self.ask, self.delivered):
            return False
        return self._attempt is not None and self._failover.has_other(self._attempt.plan.replica, time.monotonic())

    # -- trying one

    def _try(self, found: Next) -> None:
        replica, kind = found
        method: Method | None = None
        if kind is Kind.REMAKE:
            method = Method.REMAKE
        elif kind is Kind.CONTINUATION:
            state = replica.state
            method = continuation.method_at(
                self.ask, self.delivered, state.continuation, replica.engine, replica.context_tokens
            )
            kind = Kind.REMAKE if method is Method.REMAKE else kind
        limits, timeouts = self._surroundings.limits, self._surroundings.timeouts
        reserved = self._reservation(replica, kind)
        plan = Plan(
            replica,
            self._surroundings.clients[replica],
            kind,
            method,
            self.ask,
            self._forwarded if self.trace is None else self.trace.forwarded(self._forwarded, reserved.number),
            reserved,
            limits.event,
            limits.response_body,
            timeouts.between_tokens,
            self._surroundings.pump,
        )
        try:
            self._observer.write(reserved, reserved)
        except JournalError as error:
            replica.forgo()
            self._refuse(503, f"the ledger cannot be written: {error}", code="ledger_unavailable")
            return
        self._attempt = self.last = attempt = Attempt(self, plan)
        streams = self.ask.stream and self.ask.endpoint is not Endpoint.IMAGES
        self.wait_for_more(timeouts.first_token if streams else timeouts.answer)
        attempt.pause(paused=self._client_paused)
        attempt.start()

    def _reservation(self, replica: Replica, kind: Kind) -> Reserved:
        pool, number = replica.pool, self._failover.attempts
        return Reserved(
            attempt_id=f"{self.request_id}.{number}",
            request_id=self.request_id,
            number=number,
            kind=kind,
            at_ns=time.time_ns(),
            tenant=self.principal.tenant,
            lane=self.principal.lane,
            key_id=self.principal.key_id,
            endpoint=self.ask.path,
            model=self.ask.model,
            streamed=self.ask.stream,
            pool=pool.name,
            supplier=pool.supplier,
            chip=pool.chip,
            replica=replica.url,
        )

    def wait_for_more(self, seconds: float) -> float:
        """Set the deadline for the replica's next sign; none but the last while the client is the slow one.

        Returns the time.
        """
        now = time.monotonic()
        due = now + seconds
        self.deadline = self._total_ends if self._client_paused or due > self._total_ends else due
        return now

    def deadline_passed(self, now: float) -> None:
        """Act on a deadline: look again for a replica, or end an attempt whose time is up."""
        self.deadline = math.inf
        if self._attempt is not None:
            total = now >= self._total_ends
            self._attempt.deadline_passed(Outcome.TOTAL_TIMEOUT if total else Outcome.STALLED)
        elif not self._over:
            self._look_again(now)

    def let_go(self) -> None:
        """Forget the last attempt, which knows its exchange: both are freed at once, and not by a collection later."""
        self._attempt = self.last = self._told = None

    # -- what the attempt says

    def attempt_streams(self, attempt: Attempt, data: bytes, *, last: bool) -> None:
        """Hand bytes on to the client."""
        if self.tells and data and attempt is not self._told:
            self._told = attempt
            data = made_here(attempt.plan.reserved) + data
        if self._streaming and not last:
            self._connection.send(data)
            return
        if not self._streaming:
            self._streaming = True
            self.first_token_s = time.monotonic() - self.started
            self._connection.start_stream(self._headers(attempt), EVENT_STREAM, data if not last else b"")
            self._observer.began(self)
        if last:
            self._end_stream(data)

    def chunk_writer(self) -> ChunkWriter | None:
        """Return where chunks of the streamed answer may be written as they come, if anywhere."""
        return self._connection.chunk_writer() if self._streaming else None

    def attempt_answered(self, attempt: Attempt, body: bytes) -> None:
        """Hand a whole answer on to the client."""
        content_type = attempt.headers.get(b"content-type", b"application/json")
        self._finish(200)
        self._connection.respond(200, body, self._headers(attempt), content_type)

    def attempt_failed(self, attempt: Attempt, outcome: Outcome) -> None:
        """Do what policy says of a failure."""
        now = time.monotonic()
        self._attempt = None
        self.deadline = math.inf
        pool = attempt.plan.replica.pool.name
        self.attempts.append(f"{pool} ({outcome.value.replace('_', ' ')}: {attempt.detail})")
        verdict = self._failover.after(attempt.plan.replica, outcome, now, progressed=attempt.progressed)
        if verdict is Verdict.AGAIN:
            self._go_on(now)
        elif verdict is Verdict.PASS_ON and not self._streaming:
            self._pass_on(attempt)
        else:
            self._give_up(None)

    def write(self, record: Noted | Settled) -> None:
        """Write a record of the current attempt to the books."""
        assert self.last is not None
        reserved = self.last.plan.reserved
        if isinstance(record, Settled):
            self.booked.append((reserved, record))
        self._observer.write(record, reserved)
        if isinstance(record, Settled):
            self._observer.attempt_ended(self, self.last, record)

    @property
    def over(self) -> bool:
        """Whether it has been answered, or its client has left."""
        return self._over

    @property
    def pool(self) -> str | None:
        """The pool that answers now, or None while none does."""
        return None if self._attempt is None else self._attempt.plan.replica.pool.name

    def unplug(self, supplier: str) -> bool:
        """Leave the replica that answers now if it is this supplier's, and go on elsewhere; returns whether it was."""
        attempt = self._attempt
        if attempt is None or attempt.plan.replica.pool.supplier != supplier:
            return False
        attempt.unplugged()
        return True

    # -- what the client says

    def client_gone(self) -> None:
        """Leave the replica as well, and settle."""
        if self._over:
            return
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.catch_up()
        self._finish(499)
        if attempt is not None:
            attempt.client_gone()

    def interrupted(self) -> None:
        """Leave the replica because this process stops, which is no cost of the tenant's; nobody is answered."""
        if self._over:
            return
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.catch_up()
        self._finish(503)
        if attempt is not None:
            attempt.interrupted()

    def catch_up(self) -> None:
        """Have what has been passed on unseen noted."""
        if self._attempt is not None:
            self._attempt.catch_up()

    def client_reads(self, *, ready: bool) -> None:
        """Hold the replica back while the client does not keep up."""
        self._client_paused = not ready
        if self._attempt is not None:
            self._attempt.pause(paused=not ready)
            self.wait_for_more(self._surroundings.timeouts.between_tokens)

    def crashed(self) -> None:
        """End after a fault of our own: the client is cut off, and the replica left."""
        self.client_gone()
        self._connection.abort()

    # -- answering

    def _headers(self, attempt: Attempt | None) -> Lines:
        lines: Lines = [(b"x-request-id", self.request_id.encode())]
        if attempt is not None:
            lines += self._surroundings.made_at[attempt.plan.replica.pool.name]
        lines.append((b"x-secondsource-attempts", b"%d" % self._failover.attempts))
        return lines + self.told if self.told else lines

    def _end_stream(self, data: bytes) -> None:
        self._finish(200)
        self._connection.end_stream(data)

    def _finish(self, status: int) -> None:
        self._over = True
        self.waiting = False
        self.deadline = math.inf
        self._observer.ended(self, status)

    def _pass_on(self, attempt: Attempt) -> None:
        """Give the client the replica's own error, as it is."""
        content_type = attempt.headers.get(b"content-type", b"application/json")
        self._finish(attempt.status)
        self._connection.respond(attempt.status, attempt.body, self._headers(attempt), content_type)

    def _give_up(self, wait: Wait | None) -> None:
        """Say plainly that no replica could answer, or could go on."""
        tried = "; ".join(self.attempts) or "none is free or known to be well"
        if self._streaming:
            self._finish(502)
            message = f"the answer was cut and could not be continued: {tried}"
            self._connection.end_stream(error_event(message, code="stream_broken"), keep=False)
            return
        outcome = self._failover.last_outcome
        status = STATUS.get(outcome, 502) if outcome else 503
        message = f"no replica of '{self.ask.model}' could answer: {tried}"
        self._refuse(status, message, code="no_replica_available", retry_after=self._retry_after(wait))

    def send_away(self, status: int, message: str, *, code: str, reason: str, retry_after: int) -> None:
        """Refuse a request that policy does not let in, or no longer lets wait; `reason` for a program to read."""
        self.refusal = reason
        self._refuse(status, message, code=code, retry_after=retry_after)

    def _retry_after(self, wait: Wait | None) -> int:
        now = time.monotonic()
        until = wait.until if wait is not None else self._failover.soonest(now)
        return max(1, math.ceil(until - now))

    def _refuse(self, status: int, message: str, *, code: str, retry_after: int = 1) -> None:
        if self._streaming:
            self._finish(502)
            self._connection.end_stream(error_event(message, code=code), keep=False)
            return
        self._finish(status)
        lines = self._headers(self.last)
        if status in (429, 503):
            lines.append((b"retry-after", b"%d" % retry_after))
        if self.refusal:
            lines.append((b"x-secondsource-refused", self.refusal.encode()))
        self._connection.respond(status, error_body(status, message, code=code), lines)

    # -- an answer that was cut exactly where the client's own limit ends it

    def _at_limit(self) -> bool:
        engine = self.last.plan.replica.engine if self.last is not None else ""
        left = continuation.tokens_left(self.ask, tokens_made(self.delivered), engine)
        return left is not None and left <= 0

    def _finish_at_limit(self) -> None:
        usage = usage_event(self.ask, self.delivered) if self.ask.include_usage else b""
        self._end_stream(finish_event(self.ask, self.delivered, "length") + usage + DONE)
