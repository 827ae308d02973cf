"""What one attempt costs: its replica's seconds and tokens, noted as it goes on and settled once at its end."""

import time
from collections.abc import Callable

from secondsource.core.records import Noted, Outcome, Settled
from secondsource.gateway.attempts.plan import Plan
from secondsource.gateway.wire import own_count
from secondsource.gateway.wire.delivered import Delivered
from secondsource.gateway.wire.image_events import ImageRelay
from secondsource.gateway.wire.image_request import charged_pixel_steps
from secondsource.gateway.wire.own_count import BYTES_PER_TOKEN
from secondsource.gateway.wire.relay import Relay
from secondsource.gateway.wire.request import Endpoint
from secondsource.policy.accounting import Usage, cost_nano_usd, tenants_part

NOTE_EVERY_S = 1.0


class Account:
    """An attempt's part of the books, from its start to its settlement."""

    __slots__ = (
        "_delivered",
        "_plan",
        "_share_mark",
        "_shown_before",
        "_started_ns",
        "_write",
        "first_token_ns",
        "note_at",
        "own_count",
        "usage",
    )

    def __init__(self, plan: Plan, delivered: Delivered, write: Callable[[Noted | Settled], None]) -> None:
        self.first_token_ns = 0  # after the start; 0 before there is one
        self.note_at = 0.0  # when the books are told next what has been delivered
        self.usage: Usage | None = None  # as a whole answer reports it
        self.own_count: int | None = None  # of a whole answer's tokens, where its usage may not stand
        self._plan = plan
        self._delivered = delivered
        self._write = write
        self._started_ns = time.monotonic_ns()
        self._share_mark = 0
        self._shown_before: own_count.Shown | None = None  # by the attempts that this one goes on from

    @property
    def attempt_id(self) -> str:
        """The attempt's name in the books."""
        return self._plan.reserved.attempt_id

    def start(self) -> None:
        """Begin to count the replica's seconds."""
        self._share_mark = self._plan.replica.clock.enter(self._started_ns)

    def goes_on(self) -> None:
        """Take what has been delivered until now as the work of the attempts before."""
        self._shown_before = own_count.streamed_bytes(self._delivered)

    def first_token(self) -> None:
        """Note that the first token, or a whole answer, has come."""
        self.first_token_ns = time.monotonic_ns() - self._started_ns

    def note(self, relay: Relay | ImageRelay, now: float) -> None:
        """Tell the books what has been delivered so far, and set when to tell them next."""
        first, self.note_at = self.note_at == 0.0, now + NOTE_EVERY_S
        if first:
            return
        plan = self._plan
        usage, _ = self._tokens(relay, reached=True)
        share = plan.replica.clock.so_far(time.monotonic_ns(), self._share_mark)
        self._write(
            Noted(
                attempt_id=plan.reserved.attempt_id,
                at_ns=time.time_ns(),
                first_token_ns=self.first_token_ns,
                replica_ns=share,
                tokens_in=usage.tokens_in,
                tokens_cached=usage.tokens_cached,
                tokens_out=usage.tokens_out,
                cost_nano_usd=cost_nano_usd(plan.replica.pool.price, share, usage),
            )
        )

    def settle(self, outcome: Outcome, status: int, relay: Relay | ImageRelay | None, body: bytes) -> None:
        """Tell the books how the attempt ended and what it came to; to be called once."""
        plan, now_ns = self._plan, time.monotonic_ns()
        share = plan.replica.clock.leave(now_ns, self._share_mark)
        usage, counted = self._tokens(relay, reached=status == 200)
        if plan.ask.endpoint is Endpoint.IMAGES:
            usage = usage._replace(pixel_steps=charged_pixel_steps(plan.ask, plan.replica.pool, outcome, body))
        cost = cost_nano_usd(plan.replica.pool.price, share, usage)
        self._write(
            Settled(
                attempt_id=plan.reserved.attempt_id,
                at_ns=plan.reserved.at_ns + now_ns - self._started_ns,  # a wall clock may step back meanwhile
                outcome=outcome,
                status=status,
                duration_ns=now_ns - self._started_ns,
                first_token_ns=self.first_token_ns,
                replica_ns=share,
                tokens_in=usage.tokens_in,
                tokens_cached=usage.tokens_cached,
                tokens_out=usage.tokens_out,
                usage_counted=counted,
                cost_nano_usd=cost,
                tenant_nano_usd=tenants_part(outcome, cost),
            )
        )

    def _tokens(self, relay: Relay | ImageRelay | None, *, reached: bool) -> tuple[Usage, bool]:
        """Return the attempt's tokens, and whether they are our own count."""
        reported = relay.usage if relay is not None else self.usage
        counted = self.own_count
        if relay is not None:
            counted = own_count.of_stream(reported, relay.tokens_out, self._delivered, self._shown_before)
        if reported is not None and counted is None:
            return reported, False
        counted = counted or 0
        if reported is not None and reported.tokens_out > counted:
            reported = None  # what says too much of the answer is not believed of the prompt
        prompt = reported.tokens_in if reported is not None else self._plan.ask.body_length // BYTES_PER_TOKEN
        cached = reported.tokens_cached if reported is not None else 0
        return Usage(prompt if reached else 0, cached, counted), reached
