"""The metrics page: parsed back by Prometheus' own parser, it says what the meter counted."""

import re
from pathlib import Path

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from secondsource.core.records import Kind, Outcome
from secondsource.gateway.admin.metrics import MetricsCollector, make_registry
from secondsource.gateway.books.books import BooksStatus
from secondsource.gateway.meter import Meter
from secondsource.policy.circuit import CircuitState
from secondsource.policy.views import ReplicaView
from tests.ledger_records import SECOND_NS, reserved, settled

CHAT = "/v1/chat/completions"
Labels = dict[str, str]


def page(meter: Meter, replicas: tuple[ReplicaView, ...] = (), books: BooksStatus | None = None) -> str:
    collector = MetricsCollector(meter, lambda: replicas, lambda: books or BooksStatus())
    return generate_latest(make_registry(collector)).decode()


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    found: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found, key
            found[key] = sample.value
    return found


def value(text: str, name: str, **labels: str) -> float:
    return samples(text)[name, tuple(sorted(labels.items()))]


def view(url: str, circuit: CircuitState, in_flight: int) -> ReplicaView:
    return ReplicaView(
        pool="azure-h100",
        supplier="azure",
        chip="h100-sxm",
        model="chat",
        replica=url,
        in_flight=in_flight,
        circuit=circuit,
    )


def test_requests_are_histograms_with_the_conventions_names() -> None:
    meter = Meter(("chat",), ("paid",))
    meter.request_started(CHAT, "chat", "paid")
    meter.request_started(CHAT, "chat", "paid")
    meter.request_ended(CHAT, "chat", "paid", 200, 3 * SECOND_NS, SECOND_NS, tokens_out=5)
    text = page(meter)
    route = {"gen_ai_operation_name": "chat", "gen_ai_request_model": "chat", "secondsource_lane": "paid"}
    name = "gen_ai_server_request_duration_seconds"
    assert value(text, f"{name}_bucket", **route, error_type="", le="2.56") == 0
    assert value(text, f"{name}_bucket", **route, error_type="", le="5.12") == 1
    assert value(text, f"{name}_bucket", **route, error_type="", le="+Inf") == 1
    assert value(text, f"{name}_sum", **route, error_type="") == 3.0
    assert value(text, "gen_ai_server_time_to_first_token_seconds_bucket", **route, le="1.0") == 1
    assert value(text, "gen_ai_server_time_to_first_token_seconds_bucket", **route, le="0.75") == 0
    assert value(text, "gen_ai_server_time_per_output_token_seconds_sum", **route) == 0.5
    assert value(text, "secondsource_requests_in_progress", **route) == 1
    assert value(text, "secondsource_delivered_tokens_total", **route) == 5


def test_attempts_failovers_and_cost_are_told_by_supplier() -> None:
    meter = Meter(("chat",), ("paid",))
    meter.attempt_ended(reserved(), settled(outcome=Outcome.CUT, cost_nano_usd=10**9, tenant_nano_usd=0))
    oci = {"pool": "oci-b200", "supplier": "oci", "chip": "b200"}
    meter.attempt_ended(reserved(number=2, kind=Kind.CONTINUATION, **oci), settled(number=2, tokens_out=7))
    meter.attempt_ended(
        reserved("r2", kind=Kind.RETRY, **oci), settled("r2", cost_nano_usd=10**9, tenant_nano_usd=10**8)
    )
    text = page(meter)
    azure = {"pool": "azure-h100", "supplier": "azure", "chip": "h100-sxm"}
    assert value(text, "secondsource_attempts_total", **azure, kind="first", outcome="cut") == 1
    assert value(text, "secondsource_failovers_total", **oci) == 2
    assert value(text, "secondsource_continuations_total", **oci, kind="continuation", outcome="ok") == 1
    assert value(text, "secondsource_cost_usd_total", tenant="acme", supplier="azure", borne_by="operator") == 1.0
    assert value(text, "secondsource_cost_usd_total", tenant="acme", supplier="azure", borne_by="tenant") == 0.0
    upstream = {
        "gen_ai_operation_name": "chat",
        "gen_ai_provider_name": "oci",
        "gen_ai_request_model": "chat",
        "secondsource_pool": "oci-b200",
    }
    assert value(text, "gen_ai_client_token_usage_sum", **upstream, gen_ai_token_type="output") == 14
    assert value(text, "gen_ai_client_operation_duration_seconds_count", **upstream, error_type="") == 2


def test_replicas_and_books_are_told_as_they_stand() -> None:
    replicas = (view("http://a", CircuitState.OPEN, 2), view("http://b", CircuitState.CLOSED, 3))
    books = BooksStatus(pending_bytes=17, refusing=True, error="disk full", irregularities={"torn_lines": 2})
    text = page(Meter((), ()), replicas, books)
    assert value(text, "secondsource_in_flight", pool="azure-h100", supplier="azure", chip="h100-sxm") == 5
    for url, state in (("http://a", "open"), ("http://b", "closed")):
        where = {"pool": "azure-h100", "supplier": "azure", "replica": url}
        states = {
            one.value: value(text, "secondsource_circuit_state", **where, state=one.value) for one in CircuitState
        }
        assert states == {one.value: float(one.value == state) for one in CircuitState}
    assert value(text, "secondsource_journal_pending_bytes") == 17
    assert value(text, "secondsource_journal_refusing") == 1
    assert value(text, "secondsource_ledger_failing") == 1
    assert value(text, "secondsource_ledger_irregularities", kind="torn_lines") == 2


def test_the_page_tells_of_the_process_and_of_refusals() -> None:
    meter = Meter(("chat",), ("paid",))
    meter.request_refused("paid", 429)
    text = page(meter)
    assert value(text, "secondsource_refusals_total", lane="paid", status="429") == 1
    assert value(text, "process_resident_memory_bytes") > 0


def test_the_reference_lists_every_metric_and_no_other() -> None:
    text = page(Meter((), ()))
    told = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")}
    ours = {name for name in told if not name.startswith("process_")}
    document = Path(__file__).parents[4] / "docs" / "metrics.md"
    listed = set(re.findall(r"^\| `(gen_ai\w+|secondsource_\w+)` \|", document.read_text(), re.MULTILINE))
    assert listed == ours
