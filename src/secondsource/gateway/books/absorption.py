"""Absorption: reading the journals into the ledger, from where the last pass ended.

A writer's files are read in sequence. A file whose lock is free is complete: its rest is absorbed, half a line
at its end is counted as torn, and it is removed. When it is also the writer's last file, the writer is dead, and
in the same transaction its open attempts are settled as what is known.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from secondsource.gateway.books.journal import JournalFile, file_name, is_complete, list_files
from secondsource.gateway.books.posting import add_to_tally, post
from secondsource.gateway.books.running_counts import SUFFIX, path_of, read_counts

CHUNK_BYTES = 4 * 1024 * 1024  # of journal per transaction
# Posted at a time: decoding holds the interpreter lock, and the event loop waits for it, so about half a millisecond.
SLICE_BYTES = 128 * 1024

_INTERRUPT = """
UPDATE attempt SET outcome = 'interrupted', settled_at_ns = coalesce(noted_at_ns, at_ns),
    duration_ns = max(coalesce(noted_at_ns, at_ns) - at_ns, 0), usage_counted = 1, tenant_nano_usd = 0,
    noted_at_ns = NULL
WHERE writer_id = ? AND outcome IS NULL
"""

_COUNTED = """
UPDATE attempt SET tokens_out = max(tokens_out, ?), noted_at_ns = max(coalesce(noted_at_ns, at_ns), ?)
WHERE attempt_id = ? AND outcome IS NULL
"""


class Absorbed(msgspec.Struct, frozen=True):
    """What a pass over the journals brought."""

    records: int = 0
    interrupted: int = 0  # attempts of dead writers, settled as what is known
    bytes_read: int = 0
    more: bool = False  # whether the pass stopped at its bound with more to read

    def __add__(self, other: "Absorbed") -> "Absorbed":
        return Absorbed(
            self.records + other.records,
            self.interrupted + other.interrupted,
            self.bytes_read + other.bytes_read,
            other.more,
        )


class Position(msgspec.Struct, frozen=True):
    """How far a writer's journal is absorbed."""

    sequence: int
    offset: int
    closed: bool = False  # the writer is dead and nothing of it is left


class _Piece(msgspec.Struct, frozen=True):
    """Lines read from one file, and what the position is once they are posted."""

    lines: bytes
    after: Position
    torn: bool
    file_done: bool
    at_end: bool


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit what the block does, or nothing of it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        connection.rollback()
        raise


def read_positions(connection: sqlite3.Connection) -> dict[str, Position]:
    """Return how far each writer's journal is absorbed, by the writer's name."""
    rows = connection.execute("SELECT name, sequence, offset, closed FROM writer")
    return {name: Position(sequence, offset, bool(closed)) for name, sequence, offset, closed in rows}


class Absorber:
    """Reads a directory of journals into an open ledger."""

    def __init__(self, connection: sqlite3.Connection, journals: Path) -> None:
        self._connection = connection
        self._journals = journals
        self._positions = read_positions(connection)

    def absorb(self, at_most_bytes: int) -> Absorbed:
        """Make one pass over the journals, up to about `at_most_bytes`."""
        total = Absorbed()
        for file in list_files(self._journals):
            position = self._positions.get(file.writer)
            if position is not None and (position.closed or file.sequence < position.sequence):
                self._remove(file)  # absorbed by a process that died before it could remove it
                continue
            while True:
                if total.bytes_read >= at_most_bytes:
                    return total + Absorbed(more=True)
                piece = self._read(file)
                if piece is None:
                    break
                total += self._post(file, piece)
                if piece.at_end:
                    break
        return total

    def close_vanished_writers(self) -> int:
        """Settle the open attempts of writers whose journals are gone; returns how many there were."""
        present = {file.writer for file in list_files(self._journals)}
        interrupted = 0
        for name, position in list(self._positions.items()):
            if name not in present and not position.closed:
                after = Position(position.sequence, position.offset, closed=True)
                with transaction(self._connection):
                    interrupted += self._move(name, after)
                self._positions[name] = after
        for left in self._journals.glob("*" + SUFFIX):
            if left.stem not in present:
                left.unlink(missing_ok=True)  # read already, by a process that died before it could remove it
        return interrupted

    def pending_bytes(self) -> int:
        """Return how many bytes of journal are not absorbed yet."""
        pending = 0
        for file in list_files(self._journals):
            try:
                size = (self._journals / file_name(file.writer, file.sequence)).stat().st_size
            except FileNotFoundError:
                continue
            pending += max(size - self._offset(file), 0)
        return pending

    def _offset(self, file: JournalFile) -> int:
        position = self._positions.get(file.writer)
        return position.offset if position is not None and position.sequence == file.sequence else 0

    def _read(self, file: JournalFile) -> _Piece | None:
        """Return the next lines of a file, or None when there is nothing to do."""
        try:
            descriptor = os.open(self._journals / file_name(file.writer, file.sequence), os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            complete = is_complete(descriptor)  # before reading, so that "complete" covers all that is read
            offset = self._offset(file)
            data = os.pread(descriptor, CHUNK_BYTES, offset)
        finally:
            os.close(descriptor)
        at_end = len(data) < CHUNK_BYTES
        whole = data.rfind(b"\n") + 1
        if not whole and not at_end:
            whole = len(data)  # a line as long as this is none of ours; posting will reject it
        if at_end and complete:
            # Asked after the lock was found free: a living writer shows its next file before it lets go.
            last = not (self._journals / file_name(file.writer, file.sequence + 1)).exists()
            after = Position(file.sequence + 1, 0, closed=last)
            return _Piece(data[:whole], after, torn=whole < len(data), file_done=True, at_end=True)
        if not whole:
            return None
        after = Position(file.sequence, offset + whole)
        return _Piece(data[:whole], after, torn=False, file_done=False, at_end=at_end)

    def _post(self, file: JournalFile, piece: _Piece) -> Absorbed:
        before = self._positions.get(file.writer)
        with transaction(self._connection):
            interrupted = self._move(file.writer, piece.after, piece.lines, file.sequence)
            if piece.torn:
                add_to_tally(self._connection, "torn_lines")
            if before is not None and file.sequence > before.sequence:
                add_to_tally(self._connection, "missing_journal_files", file.sequence - before.sequence)
        self._positions[file.writer] = piece.after
        if piece.file_done:
            self._remove(file)
        if piece.after.closed:
            self._counts_of(file.writer).unlink(missing_ok=True)
        return Absorbed(piece.lines.count(b"\n"), interrupted, len(piece.lines))

    def _move(self, writer: str, after: Position, lines: bytes = b"", sequence: int = 0) -> int:
        """Post lines, record the new position and settle what a dead writer left open, in one transaction."""
        (writer_id,) = self._connection.execute(
            "INSERT INTO writer (name, sequence, offset, closed) VALUES (?, ?, ?, ?) ON CONFLICT (name) DO UPDATE "
            "SET sequence = excluded.sequence, offset = excluded.offset, closed = excluded.closed "
            "RETURNING writer_id",
            (writer, after.sequence, after.offset, after.closed),
        ).fetchone()
        for some in _slices(lines):
            post(self._connection, writer_id, sequence, some)
        if not after.closed:
            return 0
        counted = [(count.tokens_out, count.at_ns, count.attempt_id) for count in read_counts(self._counts_of(writer))]
        self._connection.executemany(_COUNTED, counted)
        return self._connection.execute(_INTERRUPT, (writer_id,)).rowcount

    def _counts_of(self, writer: str) -> Path:
        return path_of(self._journals, writer)

    def _remove(self, file: JournalFile) -> None:
        (self._journals / file_name(file.writer, file.sequence)).unlink(missing_ok=True)


def _slices(lines: bytes) -> Iterator[bytes]:
    """Yield whole lines, about `SLICE_BYTES` at a time."""
    start = 0
    while start < len(lines):
        end = lines.find(b"\n", start + SLICE_BYTES) + 1 or len(lines)
        yield lines[start:end]
        start = end
