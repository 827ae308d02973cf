"""OpenTelemetry traces, where they are wanted: a span for each request, and under it one for each attempt.

Ids are chosen when a request comes, so that each attempt hands its own span on to its replica. The spans themselves
are made when the request has ended, and leave over OTLP/HTTP from a thread of the library's: no request waits for
them. Its queue is bounded; where the collector does not keep up, the oldest spans are dropped. The library is imported
only when traces are on. `docs/tracing.md` lists the attributes.
"""

import logging
import os
import re
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from secondsource.core import fleet
from secondsource.core.errors import InputError
from secondsource.core.records import Outcome, Reserved, Settled
from secondsource.gateway.meter import OPERATIONS
from secondsource.gateway.request_log import RequestLine

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext, SpanKind, Status

TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[!-~]*)?")
ENDPOINT_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
MOST_QUEUED = 8192  # spans
CLOSING_S = 2.0
SAMPLED = 1
SPAN_ID_STEP = 0x9E3779B97F4A7C15  # odd: an attempt's span id is its request's and its number, and no other's
SPAN_ID_MASK = (1 << 64) - 1
SCOPE = "secondsource"
Attributes = dict[str, str | int | float | bool]


class RequestTrace(msgspec.Struct, frozen=True):
    """The ids of one request's spans."""

    trace_id: int
    span_id: int
    parent_id: int | None  # the client's span
    flags: int
    started_ns: int  # since 1970

    def attempt_id(self, number: int) -> int:
        """Return the span id of the request's attempt of this number, from 1."""
        return (self.span_id + number * SPAN_ID_STEP) & SPAN_ID_MASK or 1

    @property
    def traceparent(self) -> str:
        """The request's own span, as W3C's header names it."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{self.flags:02x}"

    def forwarded(self, lines: bytes, number: int) -> bytes:
        """Return the header lines for an attempt: the others as they stand, and its own span as the parent."""
        parent = b"traceparent: 00-%032x-%016x-%02x\r\n" % (self.trace_id, self.attempt_id(number), self.flags)
        return parent + lines


def begin(traceparent: bytes | None, now_ns: int) -> RequestTrace:
    """Return the ids of a new request: in the client's trace, or in a new one where it gave none that is valid."""
    span_id = int.from_bytes(os.urandom(8), "big") or 1
    found = TRACEPARENT.fullmatch(traceparent) if traceparent else None
    # Version ff is forbidden, and 00 has no more than four fields.
    if found and found[1] != b"ff" and not (found[1] == b"00" and found[5]):
        trace_id, parent_id = int(found[2], 16), int(found[3], 16)
        if trace_id and parent_id:
            return RequestTrace(trace_id, span_id, parent_id, int(found[4], 16) & SAMPLED, now_ns)
    return RequestTrace(int.from_bytes(os.urandom(16), "big") or 1, span_id, None, SAMPLED, now_ns)


def start_tracing(wanted: fleet.Tracing, environ: Mapping[str, str]) -> "Tracing | None":
    """Return where traces go, or None where nobody asked for them.

    Raises InputError where the fleet file asks for them and the library is not installed.
    """
    by_environment = any(environ.get(name) for name in ENDPOINT_VARIABLES)
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or not (wanted.endpoint or by_environment):
        return None
    name = wanted.service_name
    if name == fleet.Tracing().service_name:
        name = environ.get("OTEL_SERVICE_NAME") or name
    try:
        return Tracing(_with_path(wanted.endpoint) if wanted.endpoint else None, name)
    except ImportError as error:
        message = f"traces need the extra \"otlp\" ({error}): pip install 'secondsource[otlp]'"
        if wanted.endpoint:
            raise InputError(f"{message}, or leave [tracing] endpoint out") from error
        logging.getLogger("secondsource").warning("%s; there are none", message)
        return None


def _with_path(endpoint: str) -> str:
    return endpoint if urlsplit(endpoint).path.strip("/") else endpoint.rstrip("/") + "/v1/traces"


class Tracing:
    """The way of spans to their collector; to be used from one thread."""

    def __init__(self, endpoint: str | None, service_name: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope  # noqa: PLC0415

        self._resource = Resource.create({"service.name": service_name})
        self._scope = InstrumentationScope(SCOPE)
        # It would say so for every span that it drops.
        logging.getLogger("opentelemetry.sdk._shared_internal").setLevel(logging.ERROR)
        self._processor = BatchSpanProcessor(OTLPSpanExporter(endpoint), max_queue_size=MOST_QUEUED)

    def ended(self, trace: RequestTrace, line: RequestLine, booked: Sequence[tuple[Reserved, Settled]]) -> None:
        """Hand on the spans of a request that is over and of all its attempts."""
        if not trace.flags & SAMPLED:
            return
        from opentelemetry.trace import SpanKind  # noqa: PLC0415

        operation = OPERATIONS.get(line.endpoint, line.endpoint)
        name = f"{operation} {line.model}"
        mine = self._context(trace, trace.span_id)
        parent = self._context(trace, trace.parent_id) if trace.parent_id is not None else None
        ended_ns = trace.started_ns + int(line.duration_s * 1e9)
        error = str(line.status) if line.status >= 400 else ""
        self._emit(
            self._span(
                name, mine, parent, SpanKind.SERVER, _of_request(line, operation), trace.started_ns, ended_ns, error
            )
        )
        for reserved, settled in booked:
            context = self._context(trace, trace.attempt_id(reserved.number))
            error = "" if settled.outcome is Outcome.OK else settled.outcome.value
            attributes = _of_attempt(reserved, settled, operation)
            until_ns = reserved.at_ns + settled.duration_ns
            self._emit(self._span(name, context, mine, SpanKind.CLIENT, attributes, reserved.at_ns, until_ns, error))

    def _context(self, trace: RequestTrace, span_id: int) -> "SpanContext":
        from opentelemetry.trace import SpanContext, TraceFlags  # noqa: PLC0415

        return SpanContext(trace.trace_id, span_id, is_remote=False, trace_flags=TraceFlags(trace.flags))

    def _span(
        self,
        name: str,
        context: "SpanContext",
        parent: "SpanContext | None",
        kind: "SpanKind",
        attributes: Attributes,
        started_ns: int,
        ended_ns: int,
        error: str,
    ) -> "ReadableSpan":
        from opentelemetry.sdk.trace import ReadableSpan  # noqa: PLC0415

        if error:
            attributes["error.type"] = error
        return ReadableSpan(
            name=name,
            context=context,
            parent=parent,
            resource=self._resource,
            attributes=attributes,
            kind=kind,
            status=_status(error),
            start_time=started_ns,
            end_time=max(ended_ns, started_ns),
            instrumentation_scope=self._scope,
        )

    def _emit(self, span: "ReadableSpan") -> None:
        self._processor.on_end(span)

    def close(self) -> None:
        """Send what is queued, and end; blocks for a few seconds at the most."""
        ending = threading.Thread(target=self._processor.shutdown, name="last spans", daemon=True)
        ending.start()
        ending.join(CLOSING_S)


def _status(error: str) -> "Status":
    from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415

    return Status(StatusCode.ERROR, error) if error else Status()


def _of_request(line: RequestLine, operation: str) -> Attributes:
    attributes: Attributes = {
        "gen_ai.operation.name": operation,
        "gen_ai.request.model": line.model,
        "gen_ai.usage.input_tokens": line.tokens_in,
        "gen_ai.usage.output_tokens": line.tokens_out,
        "http.request.method": line.method,
        "url.path": line.endpoint,
        "http.response.status_code": line.status,
        "secondsource.request_id": line.request_id,
        "secondsource.tenant": line.tenant,
        "secondsource.lane": line.lane,
        "secondsource.streamed": line.streamed,
        "secondsource.attempts": len(line.attempts),
    }
    if line.first_token_s is not None:
        attributes["secondsource.time_to_first_token"] = line.first_token_s
    if line.refusal is not None:
        attributes["secondsource.refusal"] = line.refusal
    return attributes


def _of_attempt(reserved: Reserved, settled: Settled, operation: str) -> Attributes:
    address = urlsplit(reserved.replica)
    return {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": reserved.supplier,
        "gen_ai.request.model": reserved.model,
        "gen_ai.usage.input_tokens": settled.tokens_in,
        "gen_ai.usage.output_tokens": settled.tokens_out,
        "http.response.status_code": settled.status,
        "server.address": address.hostname or "",
        "server.port": address.port or (443 if address.scheme == "https" else 80),
        "secondsource.attempt_id": reserved.attempt_id,
        "secondsource.attempt": reserved.number,
        "secondsource.kind": reserved.kind.value,
        "secondsource.outcome": settled.outcome.value,
        "secondsource.pool": reserved.pool,
        "secondsource.chip": reserved.chip,
        "secondsource.time_to_first_token": settled.first_token_ns / 1e9,
    }
