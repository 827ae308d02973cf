import logging
import sys

import pytest

from secondsource.core import fleet
from secondsource.core.errors import InputError
from secondsource.gateway.tracing import RequestTrace, begin, start_tracing

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_a_request_joins_its_clients_trace() -> None:
    trace = begin(f"00-{TRACE}-{SPAN}-01".encode(), 5)
    assert (trace.trace_id, trace.parent_id, trace.flags, trace.started_ns) == (int(TRACE, 16), int(SPAN, 16), 1, 5)
    assert trace.span_id not in {0, trace.parent_id}


def test_a_decision_not_to_sample_is_kept() -> None:
    trace = begin(f"00-{TRACE}-{SPAN}-00".encode(), 5)
    assert trace.flags == 0
    assert trace.forwarded(b"", 1).endswith(b"-00\r\n")


def test_a_later_version_with_more_to_it_is_understood() -> None:
    assert begin(f"01-{TRACE}-{SPAN}-01-what-comes".encode(), 5).parent_id == int(SPAN, 16)


@pytest.mark.parametrize(
    "given",
    [
        None,
        b"",
        b"nonsense",
        f"00-{TRACE.upper()}-{SPAN}-01".encode(),
        f"00-{'0' * 32}-{SPAN}-01".encode(),
        f"00-{TRACE}-{'0' * 16}-01".encode(),
        f"ff-{TRACE}-{SPAN}-01".encode(),
        f"00-{TRACE}-{SPAN}-01-more".encode(),
    ],
)
def test_without_a_valid_parent_a_trace_begins(given: bytes | None) -> None:
    first, second = begin(given, 5), begin(given, 5)
    assert first.parent_id is None
    assert first.flags == 1
    assert 0 != first.trace_id != second.trace_id


def test_each_attempt_has_a_span_of_its_own() -> None:
    trace = RequestTrace(int(TRACE, 16), int(SPAN, 16), None, 1, 0)
    ids = {trace.attempt_id(number) for number in range(1, 25)}
    assert len(ids | {trace.span_id}) == 25
    line = trace.forwarded(b"tracestate: a=1\r\n", 2)
    assert line == b"traceparent: 00-%s-%016x-01\r\ntracestate: a=1\r\n" % (TRACE.encode(), trace.attempt_id(2))


@pytest.mark.parametrize(
    "environ",
    [{}, {"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "x", "OTEL_SDK_DISABLED": "true"}],
)
def test_traces_are_off_unless_asked_for(environ: dict[str, str]) -> None:
    assert start_tracing(fleet.Tracing(), environ) is None


def test_without_the_library_a_fleet_file_is_refused_and_the_environment_passed_over(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(InputError, match=r"secondsource\[otlp\]"):
        start_tracing(fleet.Tracing(endpoint="http://127.0.0.1:4318"), {})
    with caplog.at_level(logging.WARNING):
        assert start_tracing(fleet.Tracing(), {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}) is None
    assert "secondsource[otlp]" in caplog.text
