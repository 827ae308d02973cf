"""The books: append from the loop, read what was just appended, survive a stop, a kill and a failing ledger."""

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from secondsource.core.errors import InputError
from secondsource.core.fleet import Pool, Price
from secondsource.core.records import Outcome
from secondsource.gateway.books import books as books_module
from secondsource.gateway.books.books import BACKLOG_BYTES, Books, pause_s
from secondsource.gateway.books.journal import Journal
from secondsource.gateway.books.ledger import Ledger
from tests.ledger_records import AT_NS, ledger_rows, noted, reserved, settled


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a thread to bring something about."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 -- the other side is a thread
            await asyncio.sleep(0.001)


async def test_attempts_are_fresh(tmp_path: Path) -> None:
    books = Books(tmp_path)
    await books.start()
    books.append(reserved("r1"))
    [attempt] = await books.attempts_of("r1")
    assert attempt.outcome is None
    books.append(settled("r1"))
    books.append(reserved("r1", number=2))
    assert [attempt.outcome for attempt in await books.attempts_of("r1")] == [Outcome.OK, None]
    assert await books.attempts_of("r2") == []
    await books.stop()
    assert ledger_rows(tmp_path, "SELECT attempt_id, outcome FROM attempt ORDER BY 1") == [
        ("r1.1", "ok"),
        ("r1.2", "interrupted"),
    ]


async def test_the_ledger_follows_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(books_module, "SHORTEST_PAUSE_S", 0.001)
    books = Books(tmp_path)
    await books.start()
    for number in range(100):
        books.append(reserved(f"r{number}"))
    await until(lambda: books.status.records == 100)
    assert len(ledger_rows(tmp_path)) == 100
    assert books.status.pending_bytes == 0
    await books.stop()


async def test_a_start_settles_what_a_dead_process_left(tmp_path: Path) -> None:
    dead = Journal(tmp_path / "journal", worker=0, started_ns=1)
    dead.append(reserved("r1"))
    dead.append(noted("r1"))
    dead.append(reserved("r2"))
    dead.append(settled("r2"))
    dead.flush()
    dead.close()
    books = Books(tmp_path)
    recovered = await books.start()
    assert (recovered.records, recovered.interrupted) == (4, 1)
    assert books.status.interrupted == 1
    [attempt] = await books.attempts_of("r1")
    assert (attempt.outcome, attempt.tokens_out) == (Outcome.INTERRUPTED, 5)
    await books.stop()


async def test_books_that_another_owns_do_not_open_and_leave_nothing_behind(tmp_path: Path) -> None:
    owner = Ledger(tmp_path)
    with pytest.raises(InputError, match="owns the ledger"):
        await Books(tmp_path).start()
    owner.close()
    books = Books(tmp_path)
    await books.start()
    await books.stop()
    assert list((tmp_path / "journal").iterdir()) == []


async def test_a_ledger_that_fails_for_a_while_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(books_module, "SHORTEST_PAUSE_S", 0.001)
    monkeypatch.setattr(books_module, "PAUSE_AFTER_ERROR_S", 0.001)
    books = Books(tmp_path)
    await books.start()

    def fail(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(Ledger, "absorb", fail)
        books.append(reserved("r1"))
        await until(lambda: bool(books.status.error))
    assert "disk is full" in books.status.error
    assert len([record for record in caplog.records if "disk is full" in record.message]) == 1
    await until(lambda: books.status.records == 1 and not books.status.error)
    await books.stop()
    assert len(ledger_rows(tmp_path)) == 1


async def test_a_ledger_that_fails_at_the_stop_is_completed_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    books = Books(tmp_path)
    await books.start()

    def fail(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "absorb", fail)
        books.append(reserved("r1"))
        books.append(settled("r1"))
        await books.stop()
    assert ledger_rows(tmp_path) == []
    books = Books(tmp_path)
    assert (await books.start()).records == 2
    await books.stop()
    assert len(ledger_rows(tmp_path)) == 1


async def test_rent_runs_from_start_to_stop(tmp_path: Path) -> None:
    now = AT_NS
    pool = Pool(
        name="azure-h100",
        supplier="azure",
        chip="h100-sxm",
        model="chat",
        upstream_model="m",
        replicas=("http://a",),
        price=Price(nano_usd_per_replica_hour=7),
    )
    books = Books(tmp_path, pools=(pool,), clock_ns=lambda: now)
    await books.start()
    now += 3600
    await books.stop()
    rows = ledger_rows(tmp_path, "SELECT pool, nano_usd_per_replica_hour, until_ns - from_ns FROM rent")
    assert rows == [("azure-h100", 7, 3600)]


def test_absorbing_rests_nine_times_as_long_as_it_works_until_the_backlog_is_large() -> None:
    assert pause_s(0.0, 0) == 0.1
    assert pause_s(0.05, 0) == pytest.approx(0.45)
    assert pause_s(10.0, 0) == 2.0
    assert pause_s(0.05, BACKLOG_BYTES + 1) == 0.0
