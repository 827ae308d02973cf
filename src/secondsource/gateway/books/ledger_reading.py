"""Reading the books without owning them: the ledger as it stands, and what the journal still holds.

Works beside a running gateway and without one, and changes nothing. Records that no owner has absorbed yet are
posted, by the owner's own rules, into tables in memory that stand in front of the ledger's rows.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import msgspec

from secondsource.core.errors import InputError
from secondsource.gateway.books import ledger_schema
from secondsource.gateway.books.absorption import CHUNK_BYTES, Position
from secondsource.gateway.books.journal import JournalFile, file_name, list_files
from secondsource.gateway.books.posting import post

BUSY_TIMEOUT_S = 10.0


class Reading(msgspec.Struct, frozen=True):
    """An open, unchanging view of the books; ask `entry` for attempts, `rent` and `tally` for the rest.

    `pending_records` were still in the journal and are included.
    """

    connection: sqlite3.Connection
    path: Path
    pending_records: int


class _Id(msgspec.Struct, frozen=True):
    attempt_id: str


_ID = msgspec.json.Decoder(_Id)


@contextmanager
def read_books(state_dir: Path) -> Iterator[Reading]:
    """Open the books of a state directory; raises InputError when there are none or they cannot be read."""
    path = state_dir / ledger_schema.LEDGER_FILE
    if not path.is_file():
        raise InputError(
            f"no ledger in {state_dir} (looked for {path}): serve with `secondsource up` first, or name the "
            "directory that it serves from with --state-dir"
        )
    with closing(sqlite3.connect(":memory:", uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_S)) as connection:
        try:
            _attach(connection, path)
            pending = _add_pending(connection, state_dir / ledger_schema.JOURNAL_DIRECTORY)
            yield Reading(connection, path, pending)
        except sqlite3.DatabaseError as error:
            raise InputError(f"cannot read the ledger {path}: {error}") from error


def _attach(connection: sqlite3.Connection, path: Path) -> None:
    ledger_schema.create_or_check(connection, Path(":memory:"))
    uri = f"file:{quote(str(path.resolve()))}"
    try:
        connection.execute("ATTACH ? AS ledger", (f"{uri}?mode=ro",))
    except sqlite3.OperationalError:
        if path.with_name(path.name + "-wal").exists():
            raise
        # Where nothing can be written, SQLite cannot make its side files; without a log the file is all there is.
        connection.execute("ATTACH ? AS ledger", (f"{uri}?immutable=1",))
    ledger_schema.check_version(connection, path, "ledger")


def _add_pending(connection: sqlite3.Connection, journals: Path) -> int:
    """Post what is not absorbed yet; returns how many records that were."""
    # Opened before the ledger is looked at: a file that its owner absorbs and removes meanwhile stays readable
    # here, and what it held is then in the ledger's snapshot, positions included.
    opened = list(_open_all(journals))
    try:
        connection.execute("BEGIN")
        positions = {
            name: Position(sequence, offset, bool(closed))
            for name, sequence, offset, closed in connection.execute(
                "SELECT name, sequence, offset, closed FROM ledger.writer"
            )
        }
        connection.execute("INSERT INTO main.writer SELECT * FROM ledger.writer")
        connection.execute("INSERT INTO main.unmatched SELECT * FROM ledger.unmatched")
        pending = sum(_post_file(connection, file, descriptor, positions) for file, descriptor in opened)
    finally:
        for _, descriptor in opened:
            os.close(descriptor)
    connection.execute(
        "CREATE TEMP VIEW entry AS SELECT * FROM main.attempt UNION ALL "
        "SELECT * FROM ledger.attempt WHERE attempt_id NOT IN (SELECT attempt_id FROM main.attempt)"
    )
    return pending


def _open_all(journals: Path) -> Iterator[tuple[JournalFile, int]]:
    for file in list_files(journals):
        with suppress(FileNotFoundError):  # absorbed and removed this moment
            yield file, os.open(journals / file_name(file.writer, file.sequence), os.O_RDONLY)


def _post_file(
    connection: sqlite3.Connection, file: JournalFile, descriptor: int, positions: dict[str, Position]
) -> int:
    position = positions.get(file.writer, Position(0, 0))
    if position.closed or file.sequence < position.sequence:
        return 0
    offset = position.offset if file.sequence == position.sequence else 0
    writer_id = _writer_id(connection, file.writer)
    records = 0
    while data := os.pread(descriptor, CHUNK_BYTES, offset):
        lines = data[: data.rfind(b"\n") + 1]
        if not lines:
            break  # half a line: not written yet, or torn
        _copy_rows(connection, lines)
        post(connection, writer_id, file.sequence, lines)
        offset += len(lines)
        records += lines.count(b"\n")
    return records


def _writer_id(connection: sqlite3.Connection, name: str) -> int:
    (writer_id,) = connection.execute(
        "INSERT INTO main.writer (name, sequence, offset) VALUES (?, 1, 0) "
        "ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING writer_id",
        (name,),
    ).fetchone()
    return int(writer_id)


def _copy_rows(connection: sqlite3.Connection, lines: bytes) -> None:
    """Bring the ledger's rows of these attempts into memory, where posting can go on with them."""
    ids = set()
    for line in lines.split(b"\n"):
        with suppress(msgspec.DecodeError):
            ids.add((_ID.decode(line).attempt_id,))
    connection.executemany(
        "INSERT INTO main.attempt SELECT * FROM ledger.attempt WHERE attempt_id = ? "
        "ON CONFLICT (attempt_id) DO NOTHING",
        ids,
    )
