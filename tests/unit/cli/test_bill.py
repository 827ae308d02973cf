"""`secondsource bill` as a user runs it."""

import csv
import json
from pathlib import Path

import pytest

from secondsource.cli.main import main
from secondsource.core.records import Kind, Outcome
from secondsource.gateway.books.journal import Journal
from secondsource.gateway.books.ledger import Ledger
from tests.ledger_records import AT_NS, SECOND_NS, reserved, settled


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    """A ledger with two absorbed attempts of one request, and one more attempt in the journal."""
    ledger = Ledger(tmp_path)
    journal = Journal(tmp_path / "journal", worker=0, started_ns=1)
    journal.append(reserved("r1"))
    journal.append(settled("r1", outcome=Outcome.CUT, tokens_out=3, tenant_nano_usd=0))
    journal.append(reserved("r1", number=2, kind=Kind.CONTINUATION, supplier="oci", pool="oci-b200", chip="b200"))
    journal.append(settled("r1", number=2, cost_nano_usd=1_000_000_001, tenant_nano_usd=1_000_000_001))
    journal.flush()
    ledger.absorb()
    journal.append(reserved("r2", at_ns=AT_NS + 3600 * SECOND_NS))
    journal.append(settled("r2", at_ns=AT_NS + 3601 * SECOND_NS))
    journal.flush()
    journal.close()
    ledger.close()
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    code = main(["bill", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_table_for_people(state_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--state-dir", state_dir)
    assert code == 0
    assert "azure" in out
    assert "$1.000002" in out  # both suppliers' cost: 1.000000001 + 2 × 0.000001234, rounded for the eye
    assert "2 records are not in it yet, and are included from the journal." in out


def test_json_is_exact(state_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "--state-dir", state_dir, "--json", "--by", "chip")
    assert (code, err) == (0, "")
    bill = json.loads(out)
    assert (bill["by"], bill["pending_records"], bill["since"]) == ("chip", 2, None)
    assert [(line["key"], line["cost_usd"]) for line in bill["lines"]] == [
        ("b200", "1.000000001"),
        ("h100-sxm", "0.000002468"),
    ]
    total = bill["total"]
    assert (total["requests"], total["attempts"], total["failed"]) == (2, 3, 1)
    assert (total["cost_usd"], total["tenant_usd"], total["operator_usd"]) == (
        "1.000002469",
        "1.000001235",
        "0.000001234",
    )
    assert total["marginal_usd_per_million_tokens_out"] == "58823.674647"


def test_csv_has_a_header_and_no_total(state_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--state-dir", state_dir, "--csv", "--by", "tenant")
    assert code == 0
    [row] = csv.DictReader(out.splitlines())
    assert (row["tenant"], row["tokens_out"], row["cost_usd"], row["rented_usd"]) == ("acme", "17", "1.000002469", "")


@pytest.mark.parametrize(
    ("arguments", "attempts"),
    [
        (("--since", "2023-11-14T23:00Z"), 1),
        (("--until", "2023-11-14 23:00"), 2),
        (("--since", "2023-11-15T00:00+01:00"), 1),
        (("--since", "1s"), 0),
        (("--since", "2023-11-14", "--until", "2023-11-15"), 3),
    ],
)
def test_periods(
    state_dir: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], attempts: int
) -> None:
    code, out, _ = run(capsys, "--state-dir", state_dir, "--json", *arguments)
    assert code == 0
    assert json.loads(out)["total"]["attempts"] == attempts


def test_an_audit_of_books_that_balance(state_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--state-dir", state_dir, "--audit")
    assert (code, out) == (0, "The books balance: 3 attempts, every sum made again from its rows.\n")
    meter = state_dir / "meter.jsonl"
    meter.write_text('{"attempt_id": "r2.1", "tokens_in": 11, "tokens_out": 8}\n')
    code, out, _ = run(capsys, "--state-dir", state_dir, "--audit", "--meter", meter, "--json")
    assert code == 1
    audited = json.loads(out)
    assert audited["fits"] is False
    assert "r2.1" in audited["misfit"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--since", "yesterday"), "--since yesterday: expected a time such as"),
        (("--since", "1d", "--until", "2d"), "--since 1d is not before --until 2d"),
        (("--meter", "x"), "give --audit as well"),
        (("--audit", "--since", "1d"), "leave out --csv, --since and --until"),
    ],
)
def test_flags_that_cannot_be_meant(
    state_dir: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], error: str
) -> None:
    code, out, err = run(capsys, "--state-dir", state_dir, *arguments)
    assert (code, out) == (2, "")
    assert error in err


def test_no_ledger(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "--state-dir", tmp_path / "nowhere")
    assert (code, out) == (2, "")
    assert "no ledger in" in err
    assert "secondsource up" in err
