"""What the request log tells of an exchange."""

from datetime import datetime

import msgspec

from secondsource.gateway.exchange import Exchange
from secondsource.gateway.request_log import RequestLine, on_one_line, tried
from secondsource.gateway.wire.request import Ask

PROMPTS = ("messages", "prompt", "input")


def line_of(
    exchange: Exchange, at: datetime, status: int, duration_s: float, *, why_nobody: str, prompts: bool
) -> RequestLine:
    """Return the line of an exchange that has ended; `why_nobody` is said where no replica was asked."""
    ask, principal, booked = exchange.ask, exchange.principal, exchange.booked
    whole = booked[-1][1].tokens_out if booked and status == 200 and not ask.stream else 0
    return RequestLine(
        at=at,
        request_id=exchange.request_id,
        status=status,
        tenant=principal.tenant,
        lane=principal.lane,
        key_id=principal.key_id,
        method="POST",
        endpoint=ask.path,
        model=ask.model,
        streamed=ask.stream,
        refusal=None if booked or status == 499 else exchange.refusal or why_nobody,
        attempts=[tried(reserved, settled) for reserved, settled in booked],
        tokens_in=next((settled.tokens_in for _, settled in booked if settled.tokens_in), 0),
        tokens_out=exchange.delivered.tokens if ask.stream else whole,
        first_token_s=exchange.first_token_s or None,
        duration_s=duration_s,
        over_share=exchange.over_share or msgspec.UNSET,
        traceparent=exchange.traceparent,
        prompt=_said(ask) if prompts else msgspec.UNSET,
    )


def _said(ask: Ask) -> msgspec.Raw:
    """Return what was asked."""
    return on_one_line(next((text for name in PROMPTS if (text := ask.raw(name))), b"null"))
