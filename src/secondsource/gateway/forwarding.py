"""Which of a client's headers go on to replicas."""

import re

from secondsource.gateway.tracing import RequestTrace

FORWARDED = (b"traceparent", b"tracestate", b"openai-beta")
SAFE_VALUE = re.compile(rb"[\x20-\x7e]{1,512}")


def forwarded_lines(headers: dict[bytes, bytes], trace: RequestTrace | None) -> bytes:
    """Return what is passed on to replicas; with traces on, each attempt has a trace's parent of its own."""
    names: tuple[bytes, ...] = FORWARDED
    if trace is not None:  # without a valid parent, the client's state belongs to no trace
        names = (b"tracestate", b"openai-beta") if trace.parent_id is not None else (b"openai-beta",)
    lines = [b"%b: %b\r\n" % (name, headers[name]) for name in names if name in headers]
    return b"".join([line for line in lines if SAFE_VALUE.fullmatch(line[:-2])]) if lines else b""
