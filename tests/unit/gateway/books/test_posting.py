"""Posting: every irregular record has one outcome, and is counted or kept."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from secondsource.core.records import LedgerRecord, Outcome
from secondsource.gateway.books.ledger_schema import create_or_check, read_attempts, read_irregularities
from secondsource.gateway.books.posting import post
from tests.ledger_records import noted, reserved, settled


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    create_or_check(connection, Path(":memory:"))
    connection.execute("INSERT INTO writer VALUES (1, 'w', 1, 0, 0)")
    yield connection
    connection.close()


def post_all(connection: sqlite3.Connection, *records: LedgerRecord | bytes) -> dict[str, int]:
    """Post records as one batch; return the irregularities that are not zero."""
    lines = [record if isinstance(record, bytes) else msgspec.json.encode(record) for record in records]
    post(connection, 1, 1, b"".join(line + b"\n" for line in lines))
    return {name: count for name, count in read_irregularities(connection).items() if count}


def test_duplicates_are_counted_and_the_first_stands(connection: sqlite3.Connection) -> None:
    irregular = post_all(connection, reserved(), settled(), reserved(tenant="other"), settled(tokens_out=99))
    assert irregular == {"duplicate_reserved": 1, "duplicate_settled": 1}
    [attempt] = read_attempts(connection, "r1")
    assert (attempt.tenant, attempt.tokens_out) == ("acme", 7)


def test_duplicates_in_a_later_batch_are_counted_too(connection: sqlite3.Connection) -> None:
    post_all(connection, reserved(), settled())
    assert post_all(connection, settled()) == {"duplicate_settled": 1}
    assert post_all(connection, reserved()) == {"duplicate_settled": 1, "duplicate_reserved": 1}
    assert post_all(connection, reserved(), settled()) == {"duplicate_settled": 2, "duplicate_reserved": 2}


def test_a_settlement_waits_for_its_reservation(connection: sqlite3.Connection) -> None:
    assert post_all(connection, settled()) == {"unmatched": 1}
    assert read_attempts(connection, "r1") == []
    assert post_all(connection, settled(tokens_out=1)) == {"unmatched": 1, "duplicate_settled": 1}
    assert post_all(connection, reserved()) == {"duplicate_settled": 1}
    [attempt] = read_attempts(connection, "r1")
    assert (attempt.outcome, attempt.tokens_out) == (Outcome.OK, 7)


def test_a_settlement_before_its_reservation_in_one_batch_is_the_same(connection: sqlite3.Connection) -> None:
    assert post_all(connection, settled(), reserved(), reserved("r2")) == {}
    assert read_attempts(connection, "r1")[0].outcome is Outcome.OK


@pytest.mark.parametrize(
    "bad",
    [
        b"not json",
        b"\0" * 40,
        b'{"type":"reserved"}',
        b'{"type":"refunded","attempt_id":"r1.1"}',
        msgspec.json.encode(reserved("r9", attempt_id="r1.9")),
        msgspec.json.encode(settled("r1", tokens_out=-1)),
        msgspec.json.encode(settled("r1", tenant_nano_usd=1235)),
        msgspec.json.encode(settled("r1")).replace(b"1234", b"9" * 30),
    ],
)
def test_what_breaks_a_rule_is_kept_word_for_word_and_the_rest_is_posted(
    connection: sqlite3.Connection, bad: bytes
) -> None:
    irregular = post_all(connection, reserved("r1"), bad, reserved("r2"), settled("r2"))
    assert irregular == {"rejected": 1}
    assert connection.execute("SELECT line FROM rejected").fetchall() == [(bad,)]
    assert read_attempts(connection, "r1")[0].outcome is None
    assert read_attempts(connection, "r2")[0].outcome is Outcome.OK


def test_a_bad_settlement_that_waited_does_not_take_the_reservation_with_it(connection: sqlite3.Connection) -> None:
    post_all(connection, settled(tenant_nano_usd=9999))
    assert post_all(connection, reserved()) == {"rejected": 1}
    assert read_attempts(connection, "r1")[0].outcome is None


def test_notes_of_unknown_and_of_settled_attempts_change_nothing(connection: sqlite3.Connection) -> None:
    assert post_all(connection, noted("r7"), reserved(), settled(), noted(tokens_out=1)) == {}
    assert read_attempts(connection, "r1")[0].tokens_out == 7


def test_notes_settlements_and_reservations_of_several_batches(connection: sqlite3.Connection) -> None:
    post_all(connection, reserved("r1"), reserved("r2"), noted("r1", tokens_out=3))
    post_all(connection, noted("r1", tokens_out=4), settled("r1", tokens_out=5), noted("r2", tokens_out=2))
    assert [read_attempts(connection, key)[0].tokens_out for key in ("r1", "r2")] == [5, 2]
    assert read_attempts(connection, "r2")[0].outcome is None
