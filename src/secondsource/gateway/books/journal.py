"""The journal: what the gateway does, written down before the next thing is done.

One append-only file at a time under `<state_dir>/journal/`, one JSON line a record. Once the `append` of a
reservation has returned, the kernel has it, and a `kill -9` loses nothing of it. A settlement waits for the next
reservation or for `flush`, which the event loop calls in the same turn: one `write` then takes them all. A line
becomes safe against a loss of power when the ledger has absorbed it.

A file is called `<writer>.<sequence>.jsonl`, where a writer is one run of one process. The writer holds a lock
on its newest file for as long as it lives, and the kernel lets go of it when the process dies, so whoever gets
the lock knows that the file is complete.
"""

import errno
import fcntl
import os
import secrets
from pathlib import Path

import msgspec

from secondsource.core.errors import SecondsourceError
from secondsource.core.records import LedgerRecord, Noted, Settled

ROTATE_AT_BYTES = 64 * 1024 * 1024
SUFFIX = ".jsonl"
UNBORN_SUFFIX = ".new"  # created and not yet locked: nobody else may judge it


class JournalError(SecondsourceError):
    """A record could not be written, so what it stands for must not be done."""


class Journal:
    """The open end of one process's journal; to be used from one thread.

    A reservation that cannot be written raises, and the gateway refuses the work. A settlement stands for
    something that has happened, so it is kept in memory instead (bounded by the attempts in flight, as no new
    ones are reserved meanwhile) and written first as soon as the disk takes it. Notes are dropped.
    """

    def __init__(self, directory: Path, worker: int, started_ns: int, rotate_at: int = ROTATE_AT_BYTES) -> None:
        self.directory = directory
        self.writer = f"w{worker}-{started_ns}-{secrets.token_hex(4)}"
        self.refusing = False  # the disk refuses what has happened already, so that no new work can be reserved
        self._rotate_every = rotate_at
        self._rotate_at = rotate_at
        self._encode = msgspec.json.Encoder().encode
        self._notes: list[bytes] = []
        self._settled: list[bytes] = []
        self._sequence = 0
        self._size = 0
        self._torn = False
        self._whole_lines = 0  # of a write that was cut short
        self._file = self._open_next()

    @property
    def waiting(self) -> bool:
        """Whether records wait for `flush`."""
        return bool(self._settled or self._notes)

    def append(self, record: LedgerRecord) -> None:
        """Write a reservation, after all that waits; let other records wait. Raises JournalError."""
        line = self._encode(record)
        if isinstance(record, Settled):
            self._settled.append(line)
        elif isinstance(record, Noted):
            self._notes.append(line)
        else:
            self._write_all(line)

    def flush(self) -> None:
        """Write what waits; raises JournalError when the disk refuses it, and keeps the settlements."""
        if self._settled or self._notes or self.refusing:
            self._write_all()

    def _write_all(self, *reservation: bytes) -> None:
        # Notes first: one says nothing any more once its attempt is settled.
        lines = [*self._notes, *self._settled, *reservation, b""]
        notes, self._notes = len(self._notes), []
        try:
            if self._torn:
                self._replace_file()
                self._torn = False
            self._write(b"\n".join(lines))
        except JournalError:
            if self._torn:  # what stands there whole and cannot be taken back must not be written again
                del self._settled[: max(self._whole_lines - notes, 0)]
            self.refusing = self._torn or bool(self._settled)
            raise
        self.refusing = False
        self._settled = []
        if self._size >= self._rotate_at:
            self._rotate()

    def close(self) -> None:
        """Let go of the file; the ledger then treats it as complete."""
        os.close(self._file)

    def _write(self, data: bytes) -> None:
        try:
            written = os.write(self._file, data)
        except OSError as error:
            raise self._error(error) from error
        if written != len(data):
            self._whole_lines = data.count(b"\n", 0, written)
            self._undo_partial_write()
            raise self._error(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        self._size += written

    def _error(self, error: OSError) -> JournalError:
        return JournalError(
            f"cannot write the journal in {self.directory}: {error.strerror}; new requests are refused until it "
            "can be written, as an attempt without a record could be lost or billed twice: free the disk"
        )

    def _undo_partial_write(self) -> None:
        """Take half a write out again, so that the next line does not run into it and none is there twice."""
        try:
            os.ftruncate(self._file, self._size)
        except OSError:
            self._torn = True  # the next append goes to a fresh file, where no half line stands

    def _rotate(self) -> None:
        try:
            self._replace_file()
        except JournalError:
            self._rotate_at += self._rotate_every  # a longer file is better than no file

    def _replace_file(self) -> None:
        old = self._file
        self._file = self._open_next()
        self._rotate_at = self._rotate_every
        os.close(old)

    def _open_next(self) -> int:
        name = file_name(self.writer, self._sequence + 1)
        unborn = self.directory / (name + UNBORN_SUFFIX)
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(unborn, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        except OSError as error:
            raise self._error(error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            unborn.rename(self.directory / name)
        except OSError as error:
            os.close(descriptor)
            raise self._error(error) from error
        self._sequence += 1
        self._size = 0
        return descriptor


class JournalFile(msgspec.Struct, frozen=True, order=True):
    """One journal file as its name says it: ordered by writer, then sequence."""

    writer: str
    sequence: int


def file_name(writer: str, sequence: int) -> str:
    """Return a journal file's name."""
    return f"{writer}.{sequence:08d}{SUFFIX}"


def list_files(directory: Path) -> list[JournalFile]:
    """Return the journal files of a directory in the order in which they are to be read."""
    found = []
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    for name in names:
        writer, _, sequence = name.removesuffix(SUFFIX).rpartition(".")
        if name.endswith(SUFFIX) and writer and sequence.isdecimal():
            found.append(JournalFile(writer=writer, sequence=int(sequence)))
    return sorted(found)


def remove_unborn(directory: Path) -> None:
    """Remove files that a killed process had created and not yet written; only while no writer can start."""
    for path in directory.glob("*" + UNBORN_SUFFIX):
        path.unlink(missing_ok=True)


def is_complete(descriptor: int) -> bool:
    """Return whether no living writer holds this file, so that nothing will be appended to it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return True
