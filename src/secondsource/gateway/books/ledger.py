"""The ledger: one SQLite row per attempt, fed from the journals, each record exactly once.

Records and the position up to which their journal is absorbed are committed in one transaction, so a crash at
any instant is harmless: what was committed is not read again, what was not committed still is in the journal.
Whatever a dead process left behind takes the same way as live traffic. One process owns the ledger at a time.
"""

import fcntl
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from secondsource.core.errors import InputError
from secondsource.core.fleet import Pool
from secondsource.gateway.books import ledger_schema
from secondsource.gateway.books.absorption import CHUNK_BYTES, Absorbed, Absorber, transaction
from secondsource.gateway.books.journal import remove_unborn
from secondsource.gateway.books.ledger_schema import Attempt
from secondsource.gateway.books.used_so_far import used_so_far
from secondsource.policy.limits import PastUse

PASS_BYTES = 2 * CHUNK_BYTES  # of journal per pass, so that a question asked meanwhile does not wait for long
CHECKPOINT_PAGES = 4000
BUSY_TIMEOUT_S = 5.0


class Ledger:
    """The owner of `<state_dir>/ledger.sqlite3`; to be used from the thread that made it."""

    def __init__(self, state_dir: Path) -> None:
        """Take the lock and open or create the file; raises InputError when that cannot be."""
        self.journals = state_dir / ledger_schema.JOURNAL_DIRECTORY
        self._lock = _take_lock(state_dir)
        try:
            self._connection = _open(state_dir / ledger_schema.LEDGER_FILE)
        except BaseException:
            os.close(self._lock)
            raise
        self._absorber = Absorber(self._connection, self.journals)
        self._rents: list[int] = []

    def recover(self) -> Absorbed:
        """Absorb what dead processes left and settle their open attempts; before any writer of ours starts."""
        remove_unborn(self.journals)
        total = self.absorb()
        while total.more:
            total += self.absorb()
        return total + Absorbed(interrupted=self._absorber.close_vanished_writers())

    def absorb(self, at_most_bytes: int = PASS_BYTES) -> Absorbed:
        """Read the journals on from where the last pass ended, up to about `at_most_bytes`."""
        return self._absorber.absorb(at_most_bytes)

    def pending_bytes(self) -> int:
        """Return how many bytes of journal are not absorbed yet."""
        return self._absorber.pending_bytes()

    def attempts_of(self, request_id: str) -> list[Attempt]:
        """Return a request's attempts in order, as far as they are absorbed."""
        return ledger_schema.read_attempts(self._connection, request_id)

    def used_so_far(self, now_ns: int) -> list[PastUse]:
        """Return what keys and tenants used today and of late, as far as it is absorbed."""
        return used_so_far(self._connection, now_ns)

    def irregularities(self) -> dict[str, int]:
        """Return how often each thing happened that should not: see `ledger_schema.read_irregularities`."""
        return ledger_schema.read_irregularities(self._connection)

    def change_rent(self, pools: Sequence[Pool], now_ns: int) -> None:
        """End every rent now, and begin those of these pools."""
        self.extend_rent(now_ns)
        self._rents = []
        self.start_rent(pools, now_ns)

    def start_rent(self, pools: Sequence[Pool], now_ns: int) -> None:
        """Begin to count the hours for which pools that cost by the hour are rented, busy or idle."""
        with transaction(self._connection):
            for pool in pools:
                if not pool.price.nano_usd_per_replica_hour:
                    continue
                (rent_id,) = self._connection.execute(
                    "INSERT INTO rent (pool, supplier, chip, model, replicas, nano_usd_per_replica_hour, from_ns, "
                    "until_ns) VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING rent_id",
                    (
                        *(pool.name, pool.supplier, pool.chip, pool.model, len(pool.replicas)),
                        *(pool.price.nano_usd_per_replica_hour, now_ns, now_ns),
                    ),
                ).fetchone()
                self._rents.append(rent_id)

    def extend_rent(self, now_ns: int) -> None:
        """Note that everything whose rent was started still is rented."""
        with transaction(self._connection):
            self._connection.executemany(
                "UPDATE rent SET until_ns = max(until_ns, ?) WHERE rent_id = ?",
                [(now_ns, rent_id) for rent_id in self._rents],
            )

    def close(self) -> None:
        """Close the file and let go of the lock."""
        self._connection.close()
        os.close(self._lock)


def _take_lock(state_dir: Path) -> int:
    path = state_dir / ledger_schema.LOCK_FILE
    try:
        (state_dir / ledger_schema.JOURNAL_DIRECTORY).mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise InputError(
            f"cannot use {state_dir} for the ledger: {error.strerror}; give a directory that can be written with "
            "--state-dir or gateway.state_dir"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise InputError(
                f"another secondsource (process {owner or 'unknown'}) owns the ledger in {state_dir}: stop it, or "
                "give this one another directory with --state-dir"
            ) from error
        raise InputError(
            f"cannot lock {path}: {error.strerror}; state_dir must be on a local disk that supports flock"
        ) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
    return descriptor


def _open(path: Path) -> sqlite3.Connection:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # before SQLite would make it readable to others
        connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    except (OSError, sqlite3.Error) as error:
        raise InputError(f"cannot open the ledger {path}: {error}; give another --state-dir") from error
    try:
        ledger_schema.create_or_check(connection, path)
        connection.execute("PRAGMA journal_mode = WAL")
        # A journal file is removed once it is absorbed, so what was absorbed must survive a loss of power.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    except sqlite3.Error as error:
        connection.close()
        raise InputError(
            f"cannot read the ledger {path}: {error}; if it is damaged, move it away: what the journal beside it "
            "still holds will be absorbed into a new one"
        ) from error
    except InputError:
        connection.close()
        raise
    return connection
