"""Posting: journal lines become ledger rows, whatever order and company they come in.

The rules, one record at a time: the first reservation of an attempt makes its row and the first settlement
closes it; later ones are counted as duplicates. A settlement without a reservation waits in `unmatched` until
the reservation comes. A note updates an open row. What is no record, or breaks a rule of the schema, is kept
word for word in `rejected`. A batch in which nothing of this comes up takes a faster way to the same rows.
"""

import sqlite3
from operator import attrgetter

import msgspec

from secondsource.core.records import LedgerRecord, Noted, Reserved, Settled
from secondsource.gateway.books.ledger_schema import RESERVED_FIELDS, SETTLED_COLUMNS, SETTLED_FIELDS

_DECODER: msgspec.json.Decoder[LedgerRecord] = msgspec.json.Decoder(LedgerRecord)
_reserved_values = attrgetter(*RESERVED_FIELDS)
_settled_values = attrgetter(*SETTLED_FIELDS)


def _insert(columns: tuple[str, ...]) -> str:
    marks = ", ".join("?" * len(columns))
    return (
        f"INSERT INTO attempt ({', '.join(columns)}) VALUES ({marks}) "  # noqa: S608 -- our columns
        "ON CONFLICT (attempt_id) DO NOTHING"
    )


_INSERT_OPEN = _insert(("writer_id", *RESERVED_FIELDS))
_INSERT_WHOLE = _insert(("writer_id", *RESERVED_FIELDS, *SETTLED_COLUMNS))
_SETTLE = (
    f"UPDATE attempt SET noted_at_ns = NULL, {', '.join(f'{column} = ?' for column in SETTLED_COLUMNS)} "  # noqa: S608
    "WHERE attempt_id = ? AND outcome IS NULL"
)
_NOTE = (
    "UPDATE attempt SET noted_at_ns = ?, first_token_ns = ?, replica_ns = ?, tokens_in = ?, tokens_cached = ?, "
    "tokens_out = ?, cost_nano_usd = ? WHERE attempt_id = ? AND outcome IS NULL"
)
_note_values = attrgetter(
    "at_ns", "first_token_ns", "replica_ns", "tokens_in", "tokens_cached", "tokens_out", "cost_nano_usd", "attempt_id"
)
_UNPOSTABLE = (msgspec.DecodeError, sqlite3.IntegrityError, OverflowError)


class _OutOfTheOrdinaryError(Exception):
    """A batch holds something that the fast way does not handle."""


def post(connection: sqlite3.Connection, writer_id: int, sequence: int, lines: bytes) -> None:
    """Apply whole journal lines within the caller's transaction."""
    connection.execute("SAVEPOINT post")
    try:
        _post_batch(connection, writer_id, _DECODER.decode_lines(lines))
    except (*_UNPOSTABLE, _OutOfTheOrdinaryError):
        connection.execute("ROLLBACK TO post")
        for line in lines.split(b"\n"):
            if line:
                _post_line(connection, writer_id, sequence, line)
    connection.execute("RELEASE post")


def add_to_tally(connection: sqlite3.Connection, name: str, count: int = 1) -> None:
    """Count something that should be rare."""
    connection.execute(
        "INSERT INTO tally VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
        (name, count),
    )


def _post_batch(connection: sqlite3.Connection, writer_id: int, records: list[LedgerRecord]) -> None:
    opened: dict[str, Reserved] = {}
    whole: dict[str, tuple[object, ...]] = {}
    noted: dict[str, Noted] = {}
    settled: dict[str, Settled] = {}
    for record in records:
        key = record.attempt_id
        if isinstance(record, Settled):
            reserved = opened.pop(key, None)
            if reserved is not None:
                whole[key] = (writer_id, *_reserved_values(reserved), *_settled_values(record))
            elif key in whole or key in settled:
                raise _OutOfTheOrdinaryError
            else:
                settled[key] = record
        elif isinstance(record, Reserved):
            if key in opened or key in whole or key in settled or key in noted:
                raise _OutOfTheOrdinaryError
            opened[key] = record
        elif key not in settled and key not in whole:
            noted[key] = record
    if connection.execute("SELECT EXISTS (SELECT 1 FROM unmatched)").fetchone() != (0,):
        raise _OutOfTheOrdinaryError
    _expect(connection.executemany(_INSERT_WHOLE, whole.values()), len(whole))
    open_rows = [(writer_id, *_reserved_values(reserved)) for reserved in opened.values()]
    _expect(connection.executemany(_INSERT_OPEN, open_rows), len(open_rows))
    connection.executemany(_NOTE, [_note_values(note) for key, note in noted.items() if key not in whole])
    settlements = [(*_settled_values(settlement), key) for key, settlement in settled.items()]
    _expect(connection.executemany(_SETTLE, settlements), len(settlements))


def _expect(cursor: sqlite3.Cursor, rows: int) -> None:
    if rows and cursor.rowcount != rows:
        raise _OutOfTheOrdinaryError


def _post_line(connection: sqlite3.Connection, writer_id: int, sequence: int, line: bytes) -> None:
    connection.execute("SAVEPOINT line")
    try:
        record = _DECODER.decode(line)
        if isinstance(record, Reserved):
            _reserve(connection, writer_id, sequence, record)
        elif isinstance(record, Settled):
            _settle(connection, writer_id, record, line)
        else:
            connection.execute(_NOTE, _note_values(record))
    except _UNPOSTABLE as error:
        connection.execute("ROLLBACK TO line")
        connection.execute("INSERT INTO rejected VALUES (?, ?, ?, ?)", (writer_id, sequence, line, str(error)))
    connection.execute("RELEASE line")


def _reserve(connection: sqlite3.Connection, writer_id: int, sequence: int, record: Reserved) -> None:
    if connection.execute(_INSERT_OPEN, (writer_id, *_reserved_values(record))).rowcount == 0:
        add_to_tally(connection, "duplicate_reserved")
    waiting = connection.execute(
        "DELETE FROM unmatched WHERE attempt_id = ? RETURNING line", (record.attempt_id,)
    ).fetchone()
    if waiting is not None:
        _post_line(connection, writer_id, sequence, waiting[0].encode())


def _settle(connection: sqlite3.Connection, writer_id: int, record: Settled, line: bytes) -> None:
    if connection.execute(_SETTLE, (*_settled_values(record), record.attempt_id)).rowcount:
        return
    known = connection.execute("SELECT 1 FROM attempt WHERE attempt_id = ?", (record.attempt_id,)).fetchone()
    if known is None:
        added = connection.execute(
            "INSERT INTO unmatched VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            (record.attempt_id, writer_id, line.decode()),
        ).rowcount
        if added:
            return
    add_to_tally(connection, "duplicate_settled")
