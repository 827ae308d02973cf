"""The ledger: each record exactly once, whatever died when."""

import os
import re
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from secondsource.core.errors import InputError
from secondsource.core.fleet import Pool, Price
from secondsource.core.records import Outcome
from secondsource.gateway.books import absorption
from secondsource.gateway.books.journal import Journal
from secondsource.gateway.books.ledger import Ledger
from secondsource.gateway.books.posting import post
from tests.ledger_records import AT_NS, SECOND_NS, ledger_rows, noted, reserved, settled


def open_journal(state_dir: Path, started_ns: int = 1, rotate_at: int = 1 << 20) -> Journal:
    return Journal(state_dir / "journal", worker=0, started_ns=started_ns, rotate_at=rotate_at)


def journal_files(state_dir: Path) -> list[Path]:
    return sorted((state_dir / "journal").iterdir())


def test_an_attempt_is_open_until_it_is_settled(tmp_path: Path) -> None:
    ledger, journal = Ledger(tmp_path), open_journal(tmp_path)
    journal.append(reserved())
    assert ledger.absorb().records == 1
    [attempt] = ledger.attempts_of("r1")
    assert (attempt.outcome, attempt.settled_at_ns, attempt.tokens_out) == (None, None, 0)
    journal.append(settled())
    journal.flush()
    assert ledger.absorb().records == 1
    [attempt] = ledger.attempts_of("r1")
    assert attempt.outcome is Outcome.OK
    assert (attempt.tokens_in, attempt.tokens_cached, attempt.tokens_out) == (11, 3, 7)
    assert (attempt.cost_nano_usd, attempt.tenant_nano_usd) == (1234, 1234)
    assert attempt.settled_at_ns == AT_NS + 2 * SECOND_NS
    assert attempt.streamed is True
    assert ledger.absorb().records == 0
    assert ledger.pending_bytes() == 0
    ledger.close()


def test_attempts_are_those_of_one_request_in_order(tmp_path: Path) -> None:
    ledger, journal = Ledger(tmp_path), open_journal(tmp_path)
    for request, number in [("r1", 2), ("r1", 10), ("r1", 1), ("r12", 1), ("r1.1", 1)]:
        journal.append(reserved(request, number))
    ledger.absorb()
    assert [attempt.attempt_id for attempt in ledger.attempts_of("r1")] == ["r1.1", "r1.2", "r1.10"]
    assert ledger.attempts_of("r") == []
    ledger.close()


def test_what_is_noted_of_an_open_attempt_is_what_is_known(tmp_path: Path) -> None:
    ledger, journal = Ledger(tmp_path), open_journal(tmp_path)
    journal.append(reserved("r1"))
    journal.append(reserved("r2"))
    journal.append(reserved("r3"))
    journal.append(noted("r1", tokens_out=4))
    journal.append(noted("r1", tokens_out=9))
    journal.append(noted("r3"))
    journal.append(settled("r3"))
    journal.flush()
    ledger.absorb()
    assert ledger.attempts_of("r1")[0].tokens_out == 9
    journal.close()
    absorbed = ledger.absorb()
    assert absorbed.interrupted == 2
    [first] = ledger.attempts_of("r1")
    assert (first.outcome, first.tokens_out, first.cost_nano_usd) == (Outcome.INTERRUPTED, 9, 900)
    assert (first.tenant_nano_usd, first.usage_counted) == (0, True)
    assert first.settled_at_ns == AT_NS + SECOND_NS
    [second] = ledger.attempts_of("r2")
    assert (second.outcome, second.tokens_out, second.duration_ns) == (Outcome.INTERRUPTED, 0, 0)
    assert ledger.attempts_of("r3")[0].outcome is Outcome.OK
    assert journal_files(tmp_path) == []
    ledger.close()


def test_a_living_writers_attempts_are_not_interrupted(tmp_path: Path) -> None:
    ledger, dead, living = Ledger(tmp_path), open_journal(tmp_path), open_journal(tmp_path, started_ns=2)
    dead.append(reserved("r1"))
    living.append(reserved("r2"))
    dead.close()
    assert ledger.recover().interrupted == 1
    assert ledger.attempts_of("r2")[0].outcome is None
    ledger.close()


def test_absorbed_files_are_removed_and_the_open_one_stays(tmp_path: Path) -> None:
    ledger, journal = Ledger(tmp_path), open_journal(tmp_path, rotate_at=1000)
    for number in range(10):
        journal.append(reserved(f"r{number}"))
    assert len(journal_files(tmp_path)) > 2
    assert ledger.absorb().records == 10
    assert len(journal_files(tmp_path)) == 1
    journal.append(settled("r3"))
    journal.flush()
    assert ledger.absorb().records == 1
    assert ledger.attempts_of("r3")[0].outcome is Outcome.OK
    ledger.close()


def test_a_pass_is_bounded_and_says_that_there_is_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(absorption, "CHUNK_BYTES", 1000)
    ledger, journal = Ledger(tmp_path), open_journal(tmp_path)
    for number in range(20):
        journal.append(reserved(f"r{number}"))
    absorbed = ledger.absorb(at_most_bytes=2000)
    assert absorbed.more
    assert 0 < absorbed.records < 20
    total = absorbed
    while total.more:
        total += ledger.absorb(at_most_bytes=2000)
    assert total.records == 20
    assert ledger.pending_bytes() == 0
    ledger.close()


def test_a_crash_before_the_commit_applies_nothing_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = open_journal(tmp_path)
    ledger = Ledger(tmp_path)
    journal.append(reserved())
    journal.append(settled())
    journal.flush()

    def die(connection: sqlite3.Connection, writer_id: int, sequence: int, lines: bytes) -> None:
        post(connection, writer_id, sequence, lines)
        raise RuntimeError("power off")

    with monkeypatch.context() as patch:
        patch.setattr(absorption, "post", die)
        with pytest.raises(RuntimeError):
            ledger.absorb()
    assert ledger_rows(tmp_path) == []
    assert ledger_rows(tmp_path, "SELECT * FROM writer") == []
    assert ledger.absorb().records == 2
    ledger.close()
    assert len(ledger_rows(tmp_path)) == 1


def test_a_crash_between_the_commit_and_the_removal_counts_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = open_journal(tmp_path)
    journal.append(reserved())
    journal.append(settled())
    journal.flush()
    journal.close()
    ledger = Ledger(tmp_path)

    def die(*_: object) -> None:
        raise RuntimeError("power off")

    with monkeypatch.context() as patch:
        patch.setattr(absorption.Absorber, "_remove", die)
        with pytest.raises(RuntimeError):
            ledger.absorb()
    ledger.close()
    assert len(journal_files(tmp_path)) == 1
    ledger = Ledger(tmp_path)
    assert ledger.recover().records == 0
    assert ledger.irregularities() == dict.fromkeys(ledger.irregularities(), 0)
    assert journal_files(tmp_path) == []
    ledger.close()


def test_half_a_line_at_the_end_of_a_dead_writers_file_is_counted_and_dropped(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    journal.append(reserved())
    journal.close()
    [path] = journal_files(tmp_path)
    with path.open("ab") as file:
        file.write(b'{"type":"settled","attempt_id":"r1.1","at')
    ledger = Ledger(tmp_path)
    assert ledger.recover().interrupted == 1
    assert ledger.irregularities()["torn_lines"] == 1
    assert ledger.irregularities()["rejected"] == 0
    ledger.close()


def test_half_a_line_of_a_living_writer_is_read_when_it_is_whole(tmp_path: Path) -> None:
    ledger, journal = Ledger(tmp_path), open_journal(tmp_path)
    journal.append(reserved())
    [path] = journal_files(tmp_path)
    whole = path.read_bytes()
    os.truncate(path, len(whole) - 5)
    assert ledger.absorb().records == 0
    with path.open("ab") as file:
        file.write(whole[-5:])
    assert ledger.absorb().records == 1
    ledger.close()


def test_a_journal_that_vanished_leaves_no_attempt_open(tmp_path: Path) -> None:
    ledger, journal = Ledger(tmp_path), open_journal(tmp_path)
    journal.append(reserved())
    ledger.absorb()
    ledger.close()
    journal.close()
    for path in journal_files(tmp_path):
        path.unlink()
    ledger = Ledger(tmp_path)
    assert ledger.recover().interrupted == 1
    assert ledger.recover().interrupted == 0
    ledger.close()


def test_a_missing_file_in_a_writers_sequence_is_counted(tmp_path: Path) -> None:
    ledger, journal = Ledger(tmp_path), open_journal(tmp_path, rotate_at=300)
    for number in range(3):
        journal.append(reserved(f"r{number}"))
        if number == 0:
            ledger.absorb()
    journal_files(tmp_path)[0].unlink()
    ledger.absorb()
    assert ledger.irregularities()["missing_journal_files"] == 1
    assert [row[0] for row in ledger_rows(tmp_path)] == ["r0.1", "r2.1"]
    ledger.close()


def test_only_one_process_owns_the_ledger(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-c",
        "import sys; from pathlib import Path; from secondsource.gateway.books.ledger import Ledger;"
        "ledger = Ledger(Path(sys.argv[1])); print('open', flush=True); sys.stdin.read()",
        str(tmp_path),
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        with pytest.raises(InputError, match=rf"process {process.pid}\) owns the ledger in {tmp_path}.*--state-dir"):
            Ledger(tmp_path)
        process.kill()
        process.wait()
    Ledger(tmp_path).close()


def test_a_ledger_of_a_later_version_is_refused(tmp_path: Path) -> None:
    Ledger(tmp_path).close()
    connection = sqlite3.connect(tmp_path / "ledger.sqlite3")
    connection.execute("PRAGMA user_version = 2")
    connection.close()
    with pytest.raises(InputError, match="written by a later secondsource"):
        Ledger(tmp_path)
    connection = sqlite3.connect(tmp_path / "ledger.sqlite3")
    connection.execute("PRAGMA user_version = 1")
    connection.close()
    Ledger(tmp_path).close()  # and the lock was let go


@pytest.mark.parametrize("content", [b"not a database, and long enough to be looked at" * 30, None])
def test_a_file_that_is_no_ledger_is_refused_and_left_alone(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "ledger.sqlite3"
    if content is None:
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE recipes (name TEXT)")
        connection.close()
        content = path.read_bytes()
    else:
        path.write_bytes(content)
    with pytest.raises(InputError, match="ledger"):
        Ledger(tmp_path)
    assert path.read_bytes() == content


def test_a_state_directory_that_cannot_be_made_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="--state-dir"):
        Ledger(tmp_path / "file")


def test_the_ledger_file_is_private_to_the_user(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for path in (*tmp_path.glob("ledger.*"), tmp_path / "journal"):
        assert path.stat().st_mode & 0o077 == 0, path
    ledger.close()


def test_rent_counts_the_hours_of_pools_that_cost_by_the_hour(tmp_path: Path) -> None:
    def pool(name: str, price: Price) -> Pool:
        return Pool(
            name=name,
            supplier="azure",
            chip="h100-sxm",
            model="chat",
            upstream_model="m",
            replicas=("http://a", "http://b"),
            price=price,
        )

    pools = [pool("rented", Price(nano_usd_per_replica_hour=5)), pool("hosted", Price())]
    for start in (AT_NS, AT_NS + 100):
        ledger = Ledger(tmp_path)
        ledger.start_rent(pools, start)
        ledger.extend_rent(start + 10)
        ledger.extend_rent(start + 7)  # a clock that steps back does not shorten what was paid
        ledger.close()
    rows = ledger_rows(tmp_path, "SELECT pool, replicas, from_ns, until_ns FROM rent")
    assert rows == [("rented", 2, AT_NS, AT_NS + 10), ("rented", 2, AT_NS + 100, AT_NS + 110)]


APPENDER = """
import sys
from pathlib import Path
from secondsource.gateway.books.journal import Journal
from tests.ledger_records import noted, reserved, settled
journal = Journal(Path(sys.argv[1]) / "journal", worker=0, started_ns=1, rotate_at=100_000)
number = 0
while True:
    journal.append(reserved(f"r{number}"))
    print(f"reserved r{number}.1", flush=True)
    if number % 3 == 0:
        journal.append(noted(f"r{number}", tokens_out=2))
        journal.flush()
        print(f"noted r{number}.1", flush=True)
    if number % 5:
        journal.append(settled(f"r{number}", tokens_out=number))
        journal.flush()
        print(f"settled r{number}.1", flush=True)
    number += 1
"""


@pytest.mark.parametrize("absorbing", [False, True])
def test_kill_9_while_appending_loses_and_doubles_nothing(tmp_path: Path, absorbing: bool) -> None:
    command = [sys.executable, "-c", APPENDER, str(tmp_path)]
    said = (tmp_path / "said").open("w+b")
    ledger = Ledger(tmp_path)
    with subprocess.Popen(command, stdout=said) as process:
        until = time.monotonic() + 30.0
        while said.tell() < 60_000 and time.monotonic() < until:
            said.seek(0, os.SEEK_END)
            if absorbing:
                ledger.absorb(at_most_bytes=10_000)
            time.sleep(0.001)
        process.kill()
        process.wait()
    ledger.close()
    ledger = Ledger(tmp_path)
    recovered = ledger.recover()
    said.seek(0)
    reported = [line.split() for line in said.read().decode().splitlines()]
    said.close()
    assert len(reported) > 1000
    reservations = {key for kind, key in reported if kind == "reserved"}
    settlements = {key for kind, key in reported if kind == "settled"}
    rows = {row[0]: row for row in ledger_rows(tmp_path, "SELECT attempt_id, outcome, tokens_out FROM attempt")}
    assert reservations <= rows.keys()
    assert len(rows) - len(reservations) <= 1  # the one being written when the kill came
    for key in settlements:
        assert rows[key] == (key, "ok", int(key[1:-2]))
    interrupted = {key for key, row in rows.items() if row[1] == "interrupted"}
    assert {row[1] for row in rows.values()} == {"ok", "interrupted"}
    assert interrupted & settlements == set()
    assert recovered.interrupted == len(interrupted)
    assert all(rows[key][2] == 2 for key in interrupted & {key for kind, key in reported if kind == "noted"})
    irregular = ledger.irregularities()
    assert irregular.pop("torn_lines") <= 1  # a write across two pages may be cut by the kill; it was never reported
    assert not any(irregular.values())
    ledger.close()


def test_the_reference_lists_every_column_and_table(tmp_path: Path) -> None:
    Ledger(tmp_path).close()
    columns = {name for (name,) in ledger_rows(tmp_path, "SELECT name FROM pragma_table_info('attempt')")}
    tables = {name for (name,) in ledger_rows(tmp_path, "SELECT name FROM sqlite_schema WHERE type = 'table'")}
    text = (Path(__file__).parents[4] / "docs" / "ledger.md").read_text()
    reference = text[text.index("### `attempt`") : text.index("## The bill")]
    listed = {
        name for row in re.findall(r"^\| (`[^|]+`) \|", reference, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    }
    assert listed == columns | tables - {"attempt"}
