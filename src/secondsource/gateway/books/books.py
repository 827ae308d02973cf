"""The books of one gateway process: the journal it writes, the ledger it owns, and the pass between them.

`append` is called from the event loop; what it does not write at once is written in the same turn. Everything
that touches SQLite happens on one thread of its own, some ten times a second, and keeps out of the way of traffic:
see `pause_s`.
"""

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import msgspec

from secondsource.core.fleet import Pool
from secondsource.core.records import LedgerRecord
from secondsource.gateway.books.absorption import Absorbed
from secondsource.gateway.books.journal import JournalError
from secondsource.gateway.books.journal_end import JournalEnd
from secondsource.gateway.books.ledger import Ledger
from secondsource.gateway.books.ledger_schema import LEDGER_FILE, Attempt
from secondsource.gateway.books.running_counts import RunningCounts
from secondsource.policy.limits import PastUse

SHORTEST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 2.0
PAUSE_AFTER_ERROR_S = 1.0
PAUSES_PER_WORK = 9  # rest nine times as long as was worked: a tenth of one core at the most
BACKLOG_BYTES = 256 * 1024 * 1024  # of journal; past it, catching up comes before keeping out of the way
RENT_EVERY_S = 10.0

Result = TypeVar("Result")


class BooksStatus(msgspec.Struct, frozen=True):
    """How the books stand; `irregularities` counts what should not happen, by name."""

    records: int = 0  # absorbed since the start
    interrupted: int = 0  # attempts of dead processes settled at the start
    pending_bytes: int = 0
    refusing: bool = False
    error: str = ""  # why the last pass failed, or ""
    irregularities: dict[str, int] = {}


def pause_s(worked_s: float, pending_bytes: int) -> float:
    """Return how long to rest after a pass: traffic comes first, until the backlog is large.

    `worked_s` is CPU time. The journal is the truth meanwhile, so a ledger that lags loses nothing.
    """
    if pending_bytes > BACKLOG_BYTES:
        return 0.0
    return min(max(SHORTEST_PAUSE_S, PAUSES_PER_WORK * worked_s), LONGEST_PAUSE_S)


class Books:
    """Owns the journal and the ledger of a state directory while it runs."""

    def __init__(
        self,
        state_dir: Path,
        pools: Sequence[Pool] = (),
        worker: int = 0,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.ledger_path = state_dir / LEDGER_FILE
        self._state_dir = state_dir
        self._pools = tuple(pools)
        self._clock_ns = clock_ns
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger")
        self._ledger: Ledger | None = None
        self._end = JournalEnd(state_dir, worker, clock_ns)
        self._absorbing: asyncio.Task[None] | None = None
        self._status = BooksStatus()
        self._rent_noted_at = 0.0

    async def start(self) -> Absorbed:
        """Take the ledger and settle what a dead process left; raises InputError when another one owns it."""
        try:
            recovered = await self._in_thread(self._open)
            self._end.open()
        except BaseException:
            await self._close()
            raise
        self._absorbing = asyncio.create_task(self._keep_absorbing(), name="absorb the journal")
        return recovered

    def append(self, record: LedgerRecord) -> None:
        """Write one record to the journal; raises JournalError when a reservation cannot be written."""
        self._end.append(record)

    @property
    def refusing(self) -> bool:
        """Whether new work must be refused, as it could not be written."""
        return self._end.refusing

    @property
    def counts(self) -> RunningCounts | None:
        """Where running streams are counted."""
        return self._end.counts

    @property
    def status(self) -> BooksStatus:
        """How the books stood after the last pass, and whether new work is refused now."""
        return msgspec.structs.replace(self._status, refusing=self.refusing)

    async def attempts_of(self, request_id: str) -> list[Attempt]:
        """Return a request's attempts in order, everything appended so far included."""
        self._end.flush()

        def answer() -> list[Attempt]:
            ledger = self._open_ledger()
            while self._count(ledger.absorb()).more:
                pass
            return ledger.attempts_of(request_id)

        return await self._in_thread(answer)

    async def used_so_far(self) -> list[PastUse]:
        """Return what keys and tenants used today and of late; to be asked before anything new is written."""
        return await self._in_thread(lambda: self._open_ledger().used_so_far(self._clock_ns()))

    async def stop(self) -> None:
        """Absorb the rest and let go; what cannot be absorbed stays in the journal for the next start."""
        if self._absorbing is not None:
            self._absorbing.cancel()
            await asyncio.gather(self._absorbing, return_exceptions=True)
            self._absorbing = None
        self._end.close()
        try:
            await self._in_thread(self._absorb_rest)
        except (sqlite3.Error, OSError) as error:
            self._log(f"the ledger will be completed from the journal at the next start: {error}")
        await self._close()

    async def reload(self, pools: Sequence[Pool]) -> None:
        """Count the rent of these pools from now on, and no other's."""
        self._pools = tuple(pools)
        try:
            await self._in_thread(lambda: self._open_ledger().change_rent(self._pools, self._clock_ns()))
        except (sqlite3.Error, OSError) as error:
            self._log(f"the new pools' rent is not counted before the next start: {error}")

    async def _keep_absorbing(self) -> None:
        while True:
            try:
                if self._end.refusing:
                    self._end.try_again()
                pause = await self._in_thread(self._make_pass)
            except (sqlite3.Error, OSError, JournalError) as error:
                if str(error) != self._status.error:
                    self._log(f"the ledger lags, and loses nothing, as the journal has it: {error}")
                self._status = msgspec.structs.replace(self._status, error=str(error))
                pause = PAUSE_AFTER_ERROR_S
            await asyncio.sleep(pause)

    def _make_pass(self) -> float:
        ledger = self._open_ledger()
        started = time.thread_time()
        absorbed = self._count(ledger.absorb())
        if time.monotonic() - self._rent_noted_at >= RENT_EVERY_S:
            self._rent_noted_at = time.monotonic()
            ledger.extend_rent(self._clock_ns())
        irregularities = ledger.irregularities() if absorbed.records else self._status.irregularities
        pending = ledger.pending_bytes()
        self._status = msgspec.structs.replace(
            self._status, pending_bytes=pending, error="", irregularities=irregularities
        )
        return pause_s(time.thread_time() - started, pending)

    def _count(self, absorbed: Absorbed) -> Absorbed:
        self._status = msgspec.structs.replace(self._status, records=self._status.records + absorbed.records)
        return absorbed

    def _open(self) -> Absorbed:
        self._ledger = Ledger(self._state_dir)
        recovered = self._ledger.recover()
        self._ledger.start_rent(self._pools, self._clock_ns())
        self._status = BooksStatus(
            records=recovered.records,
            interrupted=recovered.interrupted,
            irregularities=self._ledger.irregularities(),
        )
        return recovered

    def _open_ledger(self) -> Ledger:
        assert self._ledger is not None, "the books are not open"
        return self._ledger

    def _absorb_rest(self) -> None:
        if self._ledger is not None:
            while self._count(self._ledger.absorb()).more:
                pass
            self._ledger.extend_rent(self._clock_ns())

    async def _close(self) -> None:
        if self._ledger is not None:
            await self._in_thread(self._ledger.close)
            self._ledger = None
        self._thread.shutdown(wait=True)

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _log(self, text: str) -> None:
        logging.getLogger("secondsource.books").warning(text)
