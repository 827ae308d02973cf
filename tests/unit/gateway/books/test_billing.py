"""The bill: exact sums of the ledger and of what the journal still holds."""

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import pytest

from secondsource.core.errors import InputError
from secondsource.core.fleet import Pool, Price
from secondsource.core.records import Kind, LedgerRecord, Outcome
from secondsource.gateway.books import ledger_reading
from secondsource.gateway.books.billing import Bill, Dimension, Period, make_bill
from secondsource.gateway.books.journal import Journal, JournalFile
from secondsource.gateway.books.ledger import Ledger
from secondsource.gateway.books.ledger_reading import read_books
from tests.ledger_records import AT_NS, SECOND_NS, noted, reserved, settled

HOUR_NS = 3600 * SECOND_NS
OCI = {"pool": "oci-b200", "supplier": "oci", "chip": "b200"}


def write(state_dir: Path, *records: LedgerRecord) -> None:
    journal = Journal(state_dir / "journal", worker=0, started_ns=1)
    for record in records:
        journal.append(record)
        journal.flush()
    journal.close()


def absorb(state_dir: Path) -> None:
    ledger = Ledger(state_dir)
    ledger.recover()
    ledger.close()


def bill(state_dir: Path, by: Dimension = Dimension.SUPPLIER, period: Period | None = None) -> Bill:
    with read_books(state_dir) as reading:
        return make_bill(reading, by, period or Period())


def failover(state_dir: Path) -> None:
    """One request, cut at azure after 3 tokens for 1000, finished at oci for 500; and one more at oci for 7."""
    write(
        state_dir,
        reserved("r1"),
        settled("r1", outcome=Outcome.CUT, tokens_out=3, cost_nano_usd=1000, tenant_nano_usd=0),
        reserved("r1", number=2, kind=Kind.CONTINUATION, at_ns=AT_NS + 1, **OCI),
        settled("r1", number=2, tokens_out=4, cost_nano_usd=500, tenant_nano_usd=500),
        reserved("r2", tenant="bob", lane="free", at_ns=AT_NS + HOUR_NS, **OCI),
        settled("r2", tokens_out=10, cost_nano_usd=7, tenant_nano_usd=7),
    )


def test_sums_by_supplier(tmp_path: Path) -> None:
    failover(tmp_path)
    absorb(tmp_path)
    made = bill(tmp_path)
    azure, oci = made.lines
    assert (azure.key, oci.key) == ("azure", "oci")
    assert (azure.requests, azure.attempts, azure.failed, azure.tokens_out) == (1, 1, 1, 3)
    assert (azure.cost_nano_usd, azure.tenant_nano_usd, azure.operator_nano_usd) == (1000, 0, 1000)
    assert (oci.requests, oci.attempts, oci.failed, oci.tokens_out) == (2, 2, 0, 14)
    assert (oci.cost_nano_usd, oci.tenant_nano_usd) == (507, 507)
    assert (made.total.requests, made.total.attempts) == (2, 3)  # a request at two suppliers is one request
    assert (made.total.cost_nano_usd, made.total.tenant_nano_usd, made.total.tokens_out) == (1507, 507, 17)
    assert made.total.marginal == Decimal(1507) / 10**9 * 10**6 / 17
    assert made.pending_records == 0


@pytest.mark.parametrize(
    ("by", "keys"),
    [
        (Dimension.SUPPLIER, ["azure", "oci"]),
        (Dimension.CHIP, ["b200", "h100-sxm"]),
        (Dimension.POOL, ["azure-h100", "oci-b200"]),
        (Dimension.TENANT, ["acme", "bob"]),
        (Dimension.LANE, ["free", "paid"]),
        (Dimension.MODEL, ["chat"]),
        (Dimension.HOUR, ["2023-11-14T22:00Z", "2023-11-14T23:00Z"]),
    ],
)
def test_every_dimension_divides_the_same_total(tmp_path: Path, by: Dimension, keys: list[str]) -> None:
    failover(tmp_path)
    absorb(tmp_path)
    made = bill(tmp_path, by)
    assert [line.key for line in made.lines] == keys
    for name in ("attempts", "tokens_in", "tokens_out", "cost_nano_usd", "tenant_nano_usd", "replica_ns"):
        assert sum(getattr(line, name) for line in made.lines) == getattr(made.total, name), name


def test_a_period_holds_what_was_reserved_in_it(tmp_path: Path) -> None:
    failover(tmp_path)
    absorb(tmp_path)
    assert bill(tmp_path, period=Period(since_ns=AT_NS + HOUR_NS)).total.attempts == 1
    assert bill(tmp_path, period=Period(until_ns=AT_NS + HOUR_NS)).total.attempts == 2
    assert bill(tmp_path, period=Period(AT_NS + 1, AT_NS + 2)).total.attempts == 1
    assert bill(tmp_path, period=Period(0, 1)).total.attempts == 0


def test_what_the_journal_still_holds_is_in_the_bill_and_stays_in_the_journal(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    journal = Journal(tmp_path / "journal", worker=0, started_ns=1)
    journal.append(reserved("r1"))
    ledger.absorb()
    journal.append(settled("r1"))  # of an attempt whose row is in the ledger
    journal.append(reserved("r2"))
    journal.append(settled("r2", cost_nano_usd=10, tenant_nano_usd=10))
    journal.append(reserved("r3"))  # open
    journal.append(noted("r3", tokens_out=2))
    journal.flush()
    made = bill(tmp_path)
    assert made.pending_records == 5
    assert (made.total.attempts, made.total.open, made.total.cost_nano_usd) == (3, 1, 1234 + 10 + 900)
    assert made.total.tokens_out == 7 + 7 + 2
    assert ledger.absorb().records == 5
    after = bill(tmp_path)
    assert after.pending_records == 0
    assert (after.total, after.lines) == (made.total, made.lines)
    ledger.close()
    journal.close()


def test_half_a_line_and_old_files_do_not_disturb_the_bill(tmp_path: Path) -> None:
    Ledger(tmp_path).close()
    failover(tmp_path)
    [path] = (tmp_path / "journal").iterdir()
    with path.open("ab") as file:
        file.write(b'{"type":"rese')
    (tmp_path / "journal" / "notes.txt").write_text("not a journal")
    assert bill(tmp_path).total.attempts == 3
    content = path.read_bytes()
    absorb(tmp_path)
    path.write_bytes(content)  # a crash before the removal
    made = bill(tmp_path)
    assert (made.total.attempts, made.pending_records) == (3, 0)


def test_a_file_absorbed_while_the_bill_is_made_is_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Ledger(tmp_path).close()
    failover(tmp_path)
    real_open_all = ledger_reading._open_all

    def open_all_then_absorb(journals: Path) -> list[tuple[JournalFile, int]]:
        opened = list(real_open_all(journals))
        assert len(opened) == 1
        absorb(tmp_path)
        return opened

    monkeypatch.setattr(ledger_reading, "_open_all", open_all_then_absorb)
    made = bill(tmp_path)
    assert list((tmp_path / "journal").iterdir()) == []
    assert (made.total.attempts, made.total.cost_nano_usd, made.pending_records) == (3, 1507, 0)


def rented_pool(name: str, supplier: str, nano_usd_per_hour: int, replicas: int) -> Pool:
    return Pool(
        name=name,
        supplier=supplier,
        chip="h100-sxm",
        model="chat",
        upstream_model="m",
        replicas=tuple(f"http://{number}" for number in range(replicas)),
        price=Price(nano_usd_per_replica_hour=nano_usd_per_hour),
    )


def test_the_loaded_price_counts_idle_hours_and_hosted_pools_by_their_cost(tmp_path: Path) -> None:
    pools = [rented_pool("azure-h100", "azure", 1000, 2), rented_pool("idle", "gcp", 500, 1)]
    ledger = Ledger(tmp_path)
    ledger.start_rent([*pools, rented_pool("oci-b200", "oci", 0, 1)], AT_NS - HOUR_NS)
    ledger.extend_rent(AT_NS + HOUR_NS)
    ledger.close()
    failover(tmp_path)
    made = bill(tmp_path)
    assert [(line.key, line.rented_nano_usd) for line in made.lines] == [("azure", 4000), ("gcp", 1000), ("oci", 507)]
    assert made.total.rented_nano_usd == 5507
    azure, gcp, _ = made.lines
    assert azure.loaded == Decimal("4000e-9") * 10**6 / 3
    assert azure.marginal == Decimal("1000e-9") * 10**6 / 3
    assert (gcp.attempts, gcp.loaded, gcp.marginal) == (0, None, None)
    half = bill(tmp_path, period=Period(AT_NS, AT_NS + HOUR_NS // 2))
    assert [line.rented_nano_usd for line in half.lines] == [1000, 250, 500]
    assert bill(tmp_path, Dimension.TENANT).lines[0].loaded is None


def test_sums_beyond_what_floats_hold_are_exact(tmp_path: Path) -> None:
    big = 2**53
    write(
        tmp_path,
        *(record for n in range(3) for record in (reserved(f"r{n}"), settled(f"r{n}", cost_nano_usd=big + n))),
    )
    absorb(tmp_path)
    assert bill(tmp_path).total.cost_nano_usd == 3 * big + 3


def test_a_sum_that_does_not_fit_is_an_error_and_not_a_wrong_number(tmp_path: Path) -> None:
    write(
        tmp_path,
        *(record for n in range(2) for record in (reserved(f"r{n}"), settled(f"r{n}", cost_nano_usd=2**63 - 1))),
    )
    absorb(tmp_path)
    with pytest.raises(InputError, match="overflow"):
        bill(tmp_path)


def test_an_empty_ledger_has_an_empty_bill(tmp_path: Path) -> None:
    Ledger(tmp_path).close()
    made = bill(tmp_path)
    assert (made.lines, made.total.attempts, made.total.marginal) == ([], 0, None)


def test_no_ledger_is_an_error_that_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"no ledger in {tmp_path}.*--state-dir"):
        bill(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_foreign_and_later_files_are_refused(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "ledger.sqlite3")
    connection.execute("CREATE TABLE recipes (name TEXT)")
    connection.close()
    with pytest.raises(InputError, match="not a secondsource ledger"):
        bill(tmp_path)
    (tmp_path / "ledger.sqlite3").write_bytes(b"nothing of the kind" * 100)
    with pytest.raises(InputError, match="cannot read the ledger"):
        bill(tmp_path)


@contextmanager
def unprivileged() -> Iterator[None]:
    """Be nobody for a while, if we are root, whom no permission stops."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_a_ledger_where_nothing_can_be_written_can_be_read(tmp_path: Path) -> None:
    failover(tmp_path)
    absorb(tmp_path)
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name)
        (copy / "ledger.sqlite3").write_bytes((tmp_path / "ledger.sqlite3").read_bytes())
        copy.chmod(0o555)
        with unprivileged():
            with pytest.raises(PermissionError):
                (copy / "ledger.sqlite3-shm").touch()
            assert bill(copy).total.attempts == 3
        copy.chmod(0o755)
