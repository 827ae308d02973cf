"""Lines of the request log, plausible ones, each field open to change."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from secondsource.core.records import Kind, Outcome
from secondsource.gateway.request_log import RequestLine, TriedLine

AT = datetime(2026, 11, 22, 12, 0, 3, tzinfo=UTC)


def tried(**changes: Any) -> TriedLine:
    """Return an attempt of 11 tokens that ended well."""
    one = TriedLine(
        pool="azure-h100",
        supplier="azure",
        chip="h100-sxm",
        replica="http://127.0.0.1:9001",
        kind=Kind.FIRST,
        outcome=Outcome.OK,
        status=200,
        duration_s=2.0,
        tokens_in=5,
        tokens_out=11,
        cost_nano_usd=7,
    )
    return msgspec.structs.replace(one, **changes)


def line(**changes: Any) -> RequestLine:
    """Return a streamed chat that was answered in two seconds, its first token after one."""
    one = RequestLine(
        at=AT,
        request_id="req_1",
        status=200,
        tenant="acme",
        lane="paid",
        method="POST",
        endpoint="/v1/chat/completions",
        model="chat",
        streamed=True,
        attempts=[tried()],
        tokens_in=5,
        tokens_out=11,
        first_token_s=1.0,
        duration_s=2.0,
    )
    return msgspec.structs.replace(one, **changes)


def failover(**changes: Any) -> RequestLine:
    """Return a request whose first attempt was cut."""
    cut = tried(outcome=Outcome.CUT, tokens_out=4)
    again = tried(pool="gcp-v6e", supplier="gcp", chip="tpu-v6e", kind=Kind.CONTINUATION, tokens_out=7)
    return line(attempts=[cut, again], **changes)
