"""What a killed process had counted is known from its file, and nothing else is."""

import ctypes
import os
import time
from pathlib import Path

import pytest

from secondsource.core.records import Outcome
from secondsource.gateway.books.ledger import Ledger
from secondsource.gateway.books.running_counts import LONGEST_ID, RunningCounts, path_of, read_counts
from tests.ledger_records import AT_NS, noted, reserved, settled
from tests.unit.gateway.books.test_ledger import open_journal


def count(address: int, tokens: int, last_ns: int) -> None:
    """Count as the pump does."""
    numbers = (ctypes.c_uint64 * 2).from_address(address)
    numbers[0] += tokens
    numbers[1] = last_ns


def test_a_count_is_read_as_it_was_left(tmp_path: Path) -> None:
    path = tmp_path / "w1.counts"
    counts = RunningCounts(path, 3)
    first, second = counts.take("r1.1", 7), counts.take("r2.1", 0)
    assert first is not None
    assert second is not None
    before_ns = time.time_ns()
    count(first, 5, time.monotonic_ns())
    found = {one.attempt_id: one for one in read_counts(path)}
    assert {name: one.tokens_out for name, one in found.items()} == {"r1.1": 12, "r2.1": 0}
    assert abs(found["r1.1"].at_ns - before_ns) < 1_000_000_000
    counts.free(first)
    assert [one.attempt_id for one in read_counts(path)] == ["r2.1"]
    assert path.stat().st_mode & 0o077 == 0
    counts.close()
    assert not path.exists()
    assert list(read_counts(path)) == []


def test_slots_are_used_again_and_end(tmp_path: Path) -> None:
    counts = RunningCounts(tmp_path / "w1.counts", 2)
    taken = [counts.take(f"r{number}.1", number) for number in range(3)]
    assert taken[2] is None
    assert taken[0] is not None
    counts.free(taken[0])
    assert counts.take("r" * (LONGEST_ID + 1), 0) is None
    assert counts.take("r9.1", 9) == taken[0]
    counts.close()


def test_a_disk_without_room_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, start: int, size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space"):
        RunningCounts(tmp_path / "w1.counts", 2)
    assert list(tmp_path.iterdir()) == []


def test_open_attempts_of_a_dead_writer_have_what_was_counted(tmp_path: Path) -> None:
    ledger, journal = Ledger(tmp_path), open_journal(tmp_path)
    counts = RunningCounts(path_of(ledger.journals, journal.writer), 8)
    for number, name in enumerate(("r1", "r2", "r3", "r4")):
        journal.append(reserved(name))
        address = counts.take(f"{name}.1", number)
        assert address is not None
        count(address, 100, time.monotonic_ns())
    journal.append(noted("r2", tokens_out=900))
    journal.append(settled("r3"))
    journal.flush()
    ledger.absorb()
    assert ledger.attempts_of("r1")[0].tokens_out == 0
    journal.close()
    assert ledger.absorb().interrupted == 3
    ends = {name: ledger.attempts_of(name)[0] for name in ("r1", "r2", "r3", "r4")}
    assert [ends[name].tokens_out for name in ("r1", "r2", "r4")] == [100, 900, 103]
    assert ends["r1"].outcome is Outcome.INTERRUPTED
    assert (ends["r1"].settled_at_ns or 0) > AT_NS
    assert ends["r3"].tokens_out == settled("r3").tokens_out
    assert [path.name for path in ledger.journals.iterdir()] == []
    ledger.close()


def test_counts_that_were_read_already_are_removed_at_the_next_start(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    left = ledger.journals / "w1-5-aaaa.counts"
    left.write_bytes(b"anything")
    ledger.recover()
    assert not left.exists()
    ledger.close()
