"""What a request leaves behind for those who watch: spans at a collector, trace context at replicas, the log."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.faults.conftest import MakeGateway, MakeWall
from tests.faults.fault import Fault, Kind
from tests.faults.harness import Gateway, Pool
from tests.faults.judge import STREAM, assert_whole
from tests.faults.language_model import ask
from tests.faults.wall import Wall

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CONTEXT = {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "vendor=1,other=a b"}


class Collector:
    """An OTLP/HTTP collector on loopback; one that `hangs` takes a request and never answers."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.resources: set[str] = set()
        self.hangs = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["content-length"]))
                if outer.hangs.wait(0):
                    time.sleep(5)
                    return
                for resource in ExportTraceServiceRequest.FromString(raw).resource_spans:
                    outer.resources.update(one.value.string_value for one in resource.resource.attributes)
                    outer.spans += [span for scope in resource.scope_spans for span in scope.spans]
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


def attributes(span: Any) -> dict[str, Any]:
    values = {one.key: one.value for one in span.attributes}
    return {key: getattr(value, value.WhichOneof("value")) for key, value in values.items()}


def two(make_wall: MakeWall, make_gateway: MakeGateway, extra: str = "") -> tuple[Wall, Wall, Gateway]:
    first, second = make_wall(), make_wall()
    pools = Pool("first", (first,), supplier="alpha"), Pool("second", (second,), supplier="beta", order=1)
    return first, second, make_gateway(*pools, extra=extra)


async def test_a_span_for_the_request_and_one_for_each_attempt(
    make_wall: MakeWall, make_gateway: MakeGateway, collector: Collector
) -> None:
    extra = f'[tracing]\nendpoint = "{collector.url}"\nservice_name = "our-gateway"\n'
    first, second, gateway = two(make_wall, make_gateway, extra)
    first.plan(Fault(Kind.CUT, after_tokens=4))
    body = ask("traced", size=200, **STREAM)
    received = await gateway.ask(body, headers=CONTEXT)
    assert_whole(received, body)
    unsampled = ask("unsampled", size=20)
    assert_whole(await gateway.ask(unsampled, headers={"traceparent": f"00-{TRACE}-{SPAN}-00"}), unsampled)
    gateway.stop()  # the last spans leave before it ends
    request, cut, rest = sorted(collector.spans, key=lambda span: (span.kind, span.start_time_unix_nano))
    assert {span.trace_id.hex() for span in collector.spans} == {TRACE}
    assert "our-gateway" in collector.resources
    assert request.parent_span_id.hex() == SPAN
    assert cut.parent_span_id == rest.parent_span_id == request.span_id
    assert first.seen[0].headers["traceparent"] == f"00-{TRACE}-{cut.span_id.hex()}-01"
    assert second.seen[0].headers["traceparent"] == f"00-{TRACE}-{rest.span_id.hex()}-01"
    assert {seen.headers["tracestate"] for seen in (first.seen[0], second.seen[0])} == {CONTEXT["tracestate"]}
    assert first.seen[1].headers["traceparent"].endswith("-00")
    told = attributes(request)
    assert {name: told[name] for name in ("gen_ai.operation.name", "secondsource.attempts", "url.path")} == {
        "gen_ai.operation.name": "chat",
        "secondsource.attempts": 2,
        "url.path": "/v1/chat/completions",
    }
    assert (told["http.response.status_code"], "error.type" in told) == (200, False)
    assert told["secondsource.request_id"] == received.headers["x-request-id"]
    failed, good = attributes(cut), attributes(rest)
    assert (failed["gen_ai.provider.name"], failed["error.type"], cut.status.code) == ("alpha", "cut", 2)
    assert (good["gen_ai.provider.name"], good["secondsource.kind"]) == ("beta", "continuation")
    assert good["gen_ai.usage.output_tokens"] == second.seen[0].tokens_sent
    assert request.start_time_unix_nano <= cut.start_time_unix_nano < cut.end_time_unix_nano
    assert rest.end_time_unix_nano - request.end_time_unix_nano < 1e9
    assert "traced" not in str(collector.spans), "what was asked is in no span"


async def test_a_collector_that_hangs_holds_nobody_up(
    make_wall: MakeWall, make_gateway: MakeGateway, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector.hangs.set()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    _, _, gateway = two(make_wall, make_gateway)
    for number in range(30):
        body = ask(f"held up {number}", size=20)
        received = await gateway.ask(body)
        assert_whole(received, body)
        assert received.seconds < 3
    begun = time.monotonic()
    await asyncio.to_thread(gateway.stop)
    assert time.monotonic() - begun < 8


async def test_without_traces_the_context_is_passed_on_as_it_stands(
    make_wall: MakeWall, make_gateway: MakeGateway
) -> None:
    first, second, gateway = two(make_wall, make_gateway)
    first.plan(Fault(Kind.CUT, after_tokens=4))
    body = ask("passed on", size=200, **STREAM)
    assert_whole(await gateway.ask(body, headers=CONTEXT), body)
    for wall in (first, second):
        assert {name: wall.seen[0].headers[name] for name in CONTEXT} == CONTEXT
    assert_whole(await gateway.ask(body), body)
    assert "traceparent" not in first.seen[-1].headers
    gateway.stop()
    lines = [json.loads(line) for line in (gateway.state_dir / "requests.jsonl").read_text().splitlines()]
    assert [line["traceparent"] for line in lines] == [CONTEXT["traceparent"], None]
    assert all("prompt" not in line for line in lines)


async def test_prompts_are_logged_only_when_asked_and_never_quietly(
    make_wall: MakeWall, make_gateway: MakeGateway
) -> None:
    gateway = make_gateway(Pool("only", (make_wall(),)), extra="[logging]\nprompts = true\n")
    body = ask("a secret\nof two lines", size=20)
    assert_whole(await gateway.ask(json.dumps(body, indent=2).encode(), path="/v1/chat/completions"), body)
    gateway.stop()
    assert "PROMPTS ARE LOGGED" in gateway.log_text()
    (line,) = (gateway.state_dir / "requests.jsonl").read_text().splitlines()
    assert json.loads(line)["prompt"] == body["messages"]
