"""The audit: it passes books that balance, and names the first row that does not fit."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from secondsource.core.errors import InputError
from secondsource.core.records import Kind, LedgerRecord, Outcome
from secondsource.gateway.books import audit as audit_module
from secondsource.gateway.books.audit import Audited, Metered, audit, read_meter
from secondsource.gateway.books.billing import make_bill
from secondsource.gateway.books.journal import Journal
from secondsource.gateway.books.ledger import Ledger
from secondsource.gateway.books.ledger_reading import read_books
from tests.ledger_records import AT_NS, reserved, settled

GOOD = (
    reserved("r1"),
    settled("r1", outcome=Outcome.CUT, tokens_out=3, tenant_nano_usd=0),
    reserved("r1", number=2, kind=Kind.CONTINUATION),
    settled("r1", number=2),
    reserved("r2"),
    settled("r2"),
)


def keep(state_dir: Path, *records: LedgerRecord) -> None:
    journal = Journal(state_dir / "journal", worker=0, started_ns=1)
    for record in records:
        journal.append(record)
        journal.flush()
    journal.close()
    ledger = Ledger(state_dir)
    ledger.recover()
    ledger.close()


def audited(state_dir: Path, *meter: Metered) -> Audited:
    with read_books(state_dir) as reading:
        return audit(reading, meter)


def tamper(state_dir: Path, sql: str) -> None:
    with closing(sqlite3.connect(state_dir / "ledger.sqlite3")) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute(sql)
        connection.commit()


def test_books_that_balance_pass(tmp_path: Path) -> None:
    keep(tmp_path, *GOOD)
    assert audited(tmp_path) == Audited(attempts=3, metered=0, misfit=None)


def test_what_is_still_in_the_journal_is_audited_too(tmp_path: Path) -> None:
    keep(tmp_path, *GOOD)
    journal = Journal(tmp_path / "journal", worker=0, started_ns=2)
    journal.append(reserved("r3"))
    assert audited(tmp_path) == Audited(attempts=4, metered=0, misfit=None)  # open, and its writer lives
    journal.append(settled("r3", tokens_cached=12))
    journal.flush()
    assert "r3.1: more input tokens were cached" in str(audited(tmp_path).misfit)
    journal.close()


@pytest.mark.parametrize(
    ("sql", "misfit"),
    [
        ("UPDATE attempt SET tenant_nano_usd = 9999 WHERE attempt_id = 'r2.1'", "r2.1: the tenant's part"),
        ("UPDATE attempt SET tenant_nano_usd = 1 WHERE attempt_id = 'r1.1'", "r1.1: it failed, and the tenant"),
        ("UPDATE attempt SET tokens_out = -1 WHERE attempt_id = 'r2.1'", "r2.1: it has fewer than no tokens"),
        ("UPDATE attempt SET tokens_cached = 12 WHERE attempt_id = 'r2.1'", "r2.1: more input tokens"),
        (f"UPDATE attempt SET settled_at_ns = {AT_NS - 1} WHERE attempt_id = 'r2.1'", "r2.1: it was settled before"),
        ("UPDATE attempt SET first_token_ns = duration_ns + 1 WHERE attempt_id = 'r2.1'", "r2.1: its first token"),
        ("UPDATE attempt SET outcome = 'splendid' WHERE attempt_id = 'r2.1'", "r2.1: Invalid enum value 'splendid'"),
        ("DELETE FROM attempt WHERE attempt_id = 'r1.1'", "r1.2: attempt 1 of its request is missing"),
        ("UPDATE attempt SET kind = 'first' WHERE attempt_id = 'r1.2'", "r1.2: it is number 2 and of kind first"),
        ("UPDATE attempt SET outcome = 'ok' WHERE attempt_id = 'r1.1'", "r1.2: the attempt before it had ended well"),
        (
            "UPDATE attempt SET outcome = NULL, settled_at_ns = NULL, tenant_nano_usd = 0 WHERE attempt_id = 'r2.1'",
            "r2.1: it is open, and the process",
        ),
        ("INSERT INTO tally VALUES ('duplicate_settled', 2)", "the ledger has 2 duplicate settled"),
        ("INSERT INTO rejected VALUES (1, 1, x'00', 'no JSON')", "the ledger has 1 rejected"),
    ],
)
def test_the_first_row_that_does_not_fit_is_named(tmp_path: Path, sql: str, misfit: str) -> None:
    keep(tmp_path, *GOOD)
    tamper(tmp_path, sql)
    assert misfit in str(audited(tmp_path).misfit)


def test_torn_lines_are_no_misfit(tmp_path: Path) -> None:
    keep(tmp_path, *GOOD)
    tamper(tmp_path, "INSERT INTO tally VALUES ('torn_lines', 2)")
    assert audited(tmp_path).misfit is None


def test_a_bill_that_sums_wrongly_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(tmp_path, *GOOD)
    monkeypatch.setattr("secondsource.gateway.books.billing.SUM_COLUMNS", _forgetful())
    assert audited(tmp_path).misfit == "the bill by supplier: azure has tokens_out 14; its rows add up to 17"
    assert audit_module.make_bill is make_bill


def _forgetful() -> tuple[str, ...]:
    from secondsource.gateway.books.billing import SUM_COLUMNS

    return tuple(column.replace("tokens_out", "tokens_out * (outcome = 'ok')") for column in SUM_COLUMNS)


def test_a_meter_that_agrees_passes(tmp_path: Path) -> None:
    keep(tmp_path, *GOOD)
    meter = (
        Metered(attempt_id="r1.1", tokens_in=11, tokens_out=3),
        Metered(attempt_id="r2.1", tokens_in=11, tokens_out=7),
        Metered(replica="http://127.0.0.1:9001", tokens_in=33, tokens_out=17),
    )
    assert audited(tmp_path, *meter) == Audited(attempts=3, metered=3, misfit=None)


@pytest.mark.parametrize(
    ("metered", "misfit"),
    [
        (
            Metered(attempt_id="r1.1", tokens_in=11, tokens_out=4),
            "attempt r1.1: booked 11 tokens in and 3 out; its replica metered 11 tokens in and 4 out",
        ),
        (
            Metered(attempt_id="r9.1", tokens_in=1, tokens_out=1),
            "attempt r9.1: its replica metered it, and it is not in the books",
        ),
        (
            Metered(replica="http://127.0.0.1:9001", tokens_in=33, tokens_out=18),
            "replica http://127.0.0.1:9001: booked 33 tokens in and 17 out; it metered 33 tokens in and 18 out",
        ),
        (
            Metered(replica="http://elsewhere", tokens_in=1, tokens_out=0),
            "replica http://elsewhere: booked 0 tokens in and 0 out; it metered 1 tokens in and 0 out",
        ),
    ],
)
def test_a_meter_that_differs_is_a_misfit(tmp_path: Path, metered: Metered, misfit: str) -> None:
    keep(tmp_path, *GOOD)
    assert audited(tmp_path, metered).misfit == misfit


def test_a_meter_file_is_read_strictly(tmp_path: Path) -> None:
    path = tmp_path / "meter.jsonl"
    path.write_text('{"attempt_id": "r1.1", "tokens_in": 1, "tokens_out": 2}\n\n')
    assert read_meter(path) == [Metered(attempt_id="r1.1", tokens_in=1, tokens_out=2)]
    path.write_text('{"attempt_id": "r1.1", "tokens_in": 1, "tokens_out": 2}\n{"attempt_id": "r1.1"}\n')
    with pytest.raises(InputError, match=r"meter.jsonl:2: .*tokens_in"):
        read_meter(path)
    path.write_text('{"tokens_in": 1, "tokens_out": 2}\n')
    with pytest.raises(InputError, match="neither attempt_id nor replica"):
        read_meter(path)
    with pytest.raises(InputError, match="cannot read the meter file"):
        read_meter(tmp_path / "missing")
