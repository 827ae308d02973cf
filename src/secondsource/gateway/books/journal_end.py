"""The open end of a process's journal on its event loop: what waits is written in the same turn.

A gateway of one process has it in its `Books`. Of several workers each has its own, and the coordinator's books absorb
them all, a dead worker's too.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from secondsource.core.fleet import Pool
from secondsource.core.records import LedgerRecord
from secondsource.gateway.books.journal import Journal, JournalError
from secondsource.gateway.books.ledger_schema import JOURNAL_DIRECTORY
from secondsource.gateway.books.running_counts import RunningCounts, path_of
from secondsource.gateway.open_files import most_pumped
from secondsource.policy.limits import PastUse

TRY_AGAIN_S = 1.0


class JournalEnd:
    """Owns the journal that this process writes."""

    def __init__(self, state_dir: Path, worker: int, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._directory = state_dir / JOURNAL_DIRECTORY
        self._worker = worker
        self._clock_ns = clock_ns
        self._journal: Journal | None = None
        self.counts: RunningCounts | None = None  # of this process's streams
        self._flushing = False  # a flush is due in this turn of the loop

    @property
    def refusing(self) -> bool:
        """Whether new work must be refused, as it could not be written."""
        return self._journal is None or self._journal.refusing

    def open(self) -> None:
        """Begin a journal; raises JournalError when the disk refuses it."""
        self._journal = Journal(self._directory, self._worker, self._clock_ns())
        with contextlib.suppress(OSError):  # without: what a killed process had passed on is known as of the last note
            self.counts = RunningCounts(path_of(self._directory, self._journal.writer), most_pumped())

    def append(self, record: LedgerRecord) -> None:
        """Write one record; raises JournalError when a reservation cannot be written."""
        assert self._journal is not None, "the journal is not open"
        self._journal.append(record)
        if self._journal.waiting and not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """Write what waits; what the disk refuses is kept, and new work is refused until it is written."""
        self._flushing = False
        with contextlib.suppress(JournalError):
            self.try_again()

    def try_again(self) -> None:
        """Write what waits; raises JournalError when the disk still refuses it."""
        if self._journal is not None:
            self._journal.flush()

    def close(self) -> None:
        """Write what waits and let go; the ledger then treats the journal as complete."""
        if self._journal is None:
            return
        try:
            self._journal.flush()
        except JournalError as error:
            logging.getLogger("secondsource.books").warning(f"the last settlements are lost: {error}")
        self._journal.close()
        self._journal = None
        if self.counts is not None:
            self.counts.close()
            self.counts = None


class WorkerBooks:
    """The books of one of several workers: a journal and nothing else."""

    def __init__(self, state_dir: Path, worker: int) -> None:
        self._end = JournalEnd(state_dir, worker)
        self._retrying: asyncio.Task[None] | None = None

    @property
    def refusing(self) -> bool:
        """Whether new work must be refused."""
        return self._end.refusing

    @property
    def counts(self) -> RunningCounts | None:
        """Where running streams are counted."""
        return self._end.counts

    async def start(self) -> None:
        """Begin the journal; raises JournalError."""
        self._end.open()
        self._retrying = asyncio.create_task(self._retry(), name="write the journal")

    def append(self, record: LedgerRecord) -> None:
        """Write one record; raises JournalError when a reservation cannot be written."""
        self._end.append(record)

    async def used_so_far(self) -> list[PastUse]:
        """Return nothing: the coordinator counts."""
        return []

    async def reload(self, pools: Sequence[Pool]) -> None:
        """Do nothing: the coordinator counts the rent."""

    async def stop(self) -> None:
        """Write the rest and let go."""
        if self._retrying is not None:
            self._retrying.cancel()
            await asyncio.gather(self._retrying, return_exceptions=True)
        self._end.close()

    async def _retry(self) -> None:
        while True:
            await asyncio.sleep(TRY_AGAIN_S)
            if self._end.refusing:
                self._end.flush()
