"""Spend by day and dimension, exactly, and what the second source saved or cost."""

import csv
from pathlib import Path

import pytest

from secondsource.console.alone import SupplierUse, cheapest_alone
from secondsource.console.finding import Wanted, find
from secondsource.console.spend import Span, as_csv, read_spend
from secondsource.core.fleet import Pool, Price
from secondsource.core.records import Kind, Outcome
from secondsource.gateway.books.billing import Dimension, Period, make_bill
from secondsource.gateway.books.journal import Journal
from secondsource.gateway.books.ledger import Ledger
from secondsource.gateway.books.ledger_reading import read_books
from secondsource.gateway.request_log import RequestLog
from tests.ledger_records import AT_NS, SECOND_NS, reserved, settled
from tests.unit.console.lines import line

HOUR_NS = 3600 * SECOND_NS
NOW_NS = AT_NS + 2 * HOUR_NS
RENTED = Pool(
    name="azure-h100",
    supplier="azure",
    chip="h100-sxm",
    model="chat",
    upstream_model="m",
    replicas=("http://127.0.0.1:9001",),
    price=Price(nano_usd_per_replica_hour=3_600_000_000),
)


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    """Two requests in one hour, the first of which failed over, one in the next; azure is rented, oci is hosted."""
    ledger = Ledger(tmp_path)
    ledger.start_rent([RENTED], AT_NS)
    journal = Journal(tmp_path / "journal", worker=0, started_ns=1)
    oci = {"supplier": "oci", "pool": "oci-b200", "chip": "b200"}
    journal.append(reserved("req_a"))
    journal.append(settled("req_a", outcome=Outcome.CUT, tokens_out=3, cost_nano_usd=300, tenant_nano_usd=0))
    journal.append(reserved("req_a", number=2, kind=Kind.CONTINUATION, **oci))
    journal.append(settled("req_a", number=2, tokens_out=10, cost_nano_usd=5000, tenant_nano_usd=5000))
    journal.append(reserved("req_b", tenant="umbrella", lane="free"))
    journal.append(settled("req_b", tokens_out=7, cost_nano_usd=700, tenant_nano_usd=700))
    journal.append(reserved("req_c", at_ns=AT_NS + HOUR_NS))
    journal.append(settled("req_c", at_ns=AT_NS + HOUR_NS + 1, tokens_out=10, cost_nano_usd=1000, tenant_nano_usd=1000))
    journal.flush()
    ledger.absorb()
    ledger.extend_rent(AT_NS + HOUR_NS)
    journal.close()
    ledger.close()
    return tmp_path


@pytest.mark.parametrize("by", [Dimension.SUPPLIER, Dimension.TENANT, Dimension.LANE, Dimension.CHIP])
def test_totals_are_the_bills(state_dir: Path, by: Dimension) -> None:
    spend = read_spend(state_dir, Span.DAY, by, NOW_NS)
    with read_books(state_dir) as reading:
        bill = make_bill(reading, by, Period(until_ns=NOW_NS))
    assert [(line.key, line.attempts, line.failed, line.tokens_out, line.marginal_usd) for line in spend.totals] == [
        (line.key, line.attempts, line.failed, line.tokens_out, f"0.00000{line.cost_nano_usd:04d}")
        for line in bill.lines
    ]


def test_rent_is_divided_among_the_hours_it_lasted(state_dir: Path) -> None:
    spend = read_spend(state_dir, Span.DAY, Dimension.SUPPLIER, NOW_NS)
    azure = [line for line in spend.lines if line.key == "azure"]
    assert len(azure) == 2
    assert sum(float(line.loaded_usd or 0) for line in azure) == pytest.approx(3.6)
    [oci] = [line for line in spend.lines if line.key == "oci"]
    assert oci.loaded_usd == oci.marginal_usd == "0.000005000"
    assert all(line.loaded_usd is None for line in read_spend(state_dir, Span.DAY, Dimension.TENANT, NOW_NS).lines)


def test_csv_has_every_line_and_no_total(state_dir: Path) -> None:
    spend = read_spend(state_dir, Span.DAY, Dimension.LANE, NOW_NS)
    rows = list(csv.DictReader(as_csv(spend).splitlines()))
    assert [(row["lane"], row["attempts"], row["loaded_usd"]) for row in rows] == [
        ("free", "1", ""),
        ("paid", "2", ""),
        ("paid", "1", ""),
    ]
    assert rows[0]["from_utc"] == "2023-11-14T22:00Z"


def test_what_the_second_source_cost_beside_the_cheapest_single_one() -> None:
    uses = [SupplierUse("azure", "chat", 100, 1000, 4000), SupplierUse("oci", "chat", 300, 6000, 3000)]
    found = cheapest_alone(uses)
    assert found is not None
    assert (found.cheapest_marginal, found.saved_marginal_usd) == ("azure", "-0.000003000")  # 4000 alone, 7000 paid
    assert (found.cheapest_loaded, found.saved_loaded_usd) == ("oci", "-0.000003000")
    assert [line.marginal_usd for line in found.suppliers] == ["0.000004000", "0.000008000"]


def test_a_supplier_that_served_not_every_model_could_not_have_been_the_single_one() -> None:
    uses = [
        SupplierUse("azure", "chat", 100, 1000, 0),
        SupplierUse("oci", "chat", 100, 3000, 0),
        SupplierUse("oci", "small", 10, 10, 0),
    ]
    found = cheapest_alone(uses)
    assert found is not None
    assert [line.marginal_usd for line in found.suppliers] == [None, "0.000006010"]
    assert (found.cheapest_marginal, found.saved_marginal_usd) == ("oci", "0.000002000")
    assert cheapest_alone([]) is None


def ids(state_dir: Path, **wanted: object) -> list[str]:
    return [one.request_id for one in find(state_dir, Wanted(**wanted), NOW_NS).requests]  # type: ignore[arg-type]


def test_requests_are_found_by_id_tenant_and_outcome(state_dir: Path) -> None:
    assert ids(state_dir) == ["req_c", "req_a", "req_b"] or ids(state_dir) == ["req_c", "req_b", "req_a"]
    assert ids(state_dir, tenant="umbrella") == ["req_b"]
    assert ids(state_dir, outcome="failover") == ["req_a"]
    assert ids(state_dir, outcome="cut") == ["req_a"]
    assert sorted(ids(state_dir, ids=("req_a", "req_c"), hours=1)) == ["req_a", "req_c"]
    assert ids(state_dir, hours=1) == ["req_c"]
    [found] = find(state_dir, Wanted(ids=("req_a",)), NOW_NS).requests
    assert (found.attempts, sorted(found.suppliers), found.outcome) == (2, ["azure", "oci"], "ok")
    assert (found.cost_usd, found.tokens_out) == ("0.000005300", 13)


def test_refused_requests_are_found_in_the_log(state_dir: Path) -> None:
    log = RequestLog(state_dir)
    log.write([line(request_id="req_x", status=429, refusal="rejected-ttft", attempts=[]), line(request_id="req_y")])
    log.close()
    assert ids(state_dir, outcome="refused") == ["req_x"]
    [found] = find(state_dir, Wanted(ids=("req_x",)), NOW_NS).requests
    assert (found.outcome, found.reason, found.suppliers) == ("refused", "429 rejected-ttft", [])
