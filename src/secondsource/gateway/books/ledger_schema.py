"""The ledger's tables and the records that are read from them. `docs/ledger.md` describes them for people.

Times are wall-clock nanoseconds since 1970, durations nanoseconds, money integer nano-dollars.
"""

import sqlite3
from pathlib import Path

import msgspec

from secondsource.core.errors import InputError
from secondsource.core.records import Kind, Outcome, Reserved, Settled

LEDGER_FILE = "ledger.sqlite3"
LOCK_FILE = "ledger.lock"
JOURNAL_DIRECTORY = "journal"
SCHEMA_VERSION = 1
APPLICATION_ID = 0x53324C47  # "S2LG": tells this file from any other SQLite file

TABLES = """
CREATE TABLE writer (              -- one run of one gateway process, and how far its journal is absorbed
    writer_id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    sequence INTEGER NOT NULL,     -- of the journal file to read next
    offset INTEGER NOT NULL CHECK (offset >= 0),
    closed INTEGER NOT NULL DEFAULT 0 CHECK (closed IN (0, 1))
) STRICT;

CREATE TABLE attempt (             -- one try of one request at one replica; open while outcome is NULL
    attempt_id TEXT NOT NULL PRIMARY KEY CHECK (attempt_id = request_id || '.' || number),
    request_id TEXT NOT NULL,
    number INTEGER NOT NULL CHECK (number >= 1),
    kind TEXT NOT NULL,
    at_ns INTEGER NOT NULL,
    tenant TEXT NOT NULL,
    lane TEXT NOT NULL,
    key_id TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    model TEXT NOT NULL,
    streamed INTEGER NOT NULL CHECK (streamed IN (0, 1)),
    pool TEXT NOT NULL,
    supplier TEXT NOT NULL,
    chip TEXT NOT NULL,
    replica TEXT NOT NULL,
    writer_id INTEGER NOT NULL REFERENCES writer (writer_id),
    noted_at_ns INTEGER,           -- of the last note that came while the stream ran
    settled_at_ns INTEGER,
    outcome TEXT,
    status INTEGER NOT NULL DEFAULT 0,
    duration_ns INTEGER NOT NULL DEFAULT 0 CHECK (duration_ns >= 0),
    first_token_ns INTEGER NOT NULL DEFAULT 0 CHECK (first_token_ns >= 0),
    replica_ns INTEGER NOT NULL DEFAULT 0 CHECK (replica_ns >= 0),
    tokens_in INTEGER NOT NULL DEFAULT 0 CHECK (tokens_in >= 0),
    tokens_cached INTEGER NOT NULL DEFAULT 0 CHECK (tokens_cached >= 0),
    tokens_out INTEGER NOT NULL DEFAULT 0 CHECK (tokens_out >= 0),
    usage_counted INTEGER NOT NULL DEFAULT 0 CHECK (usage_counted IN (0, 1)),
    cost_nano_usd INTEGER NOT NULL DEFAULT 0 CHECK (cost_nano_usd >= 0),
    tenant_nano_usd INTEGER NOT NULL DEFAULT 0 CHECK (tenant_nano_usd BETWEEN 0 AND cost_nano_usd),
    CHECK ((outcome IS NULL) = (settled_at_ns IS NULL))
) STRICT;
CREATE INDEX attempt_at ON attempt (at_ns);
CREATE INDEX attempt_open ON attempt (writer_id) WHERE outcome IS NULL;

CREATE TABLE unmatched (           -- settlements whose reservation has not been seen
    attempt_id TEXT NOT NULL PRIMARY KEY,
    writer_id INTEGER NOT NULL REFERENCES writer (writer_id),
    line TEXT NOT NULL
) STRICT;

CREATE TABLE rejected (            -- lines that are no record, or a record that breaks a rule of this schema
    writer_id INTEGER NOT NULL REFERENCES writer (writer_id),
    sequence INTEGER NOT NULL,
    line BLOB NOT NULL,
    reason TEXT NOT NULL
) STRICT;

CREATE TABLE tally (               -- how often something happened that should be rare
    name TEXT NOT NULL PRIMARY KEY,
    value INTEGER NOT NULL CHECK (value >= 0)
) STRICT;

CREATE TABLE rent (                -- what was rented while it was served, busy or idle
    rent_id INTEGER PRIMARY KEY,
    pool TEXT NOT NULL,
    supplier TEXT NOT NULL,
    chip TEXT NOT NULL,
    model TEXT NOT NULL,
    replicas INTEGER NOT NULL CHECK (replicas >= 1),
    nano_usd_per_replica_hour INTEGER NOT NULL CHECK (nano_usd_per_replica_hour >= 0),
    from_ns INTEGER NOT NULL,
    until_ns INTEGER NOT NULL CHECK (until_ns >= from_ns)
) STRICT;
"""

RESERVED_FIELDS = tuple(field.name for field in msgspec.structs.fields(Reserved))
SETTLED_FIELDS = tuple(field.name for field in msgspec.structs.fields(Settled) if field.name != "attempt_id")
SETTLED_COLUMNS = tuple("settled_at_ns" if name == "at_ns" else name for name in SETTLED_FIELDS)


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the ledger; `outcome` and `settled_at_ns` are None while the attempt is open."""

    attempt_id: str
    request_id: str
    number: int
    kind: Kind
    at_ns: int
    tenant: str
    lane: str
    key_id: str
    endpoint: str
    model: str
    streamed: bool
    pool: str
    supplier: str
    chip: str
    replica: str
    settled_at_ns: int | None
    outcome: Outcome | None
    status: int
    duration_ns: int
    first_token_ns: int
    replica_ns: int
    tokens_in: int
    tokens_cached: int
    tokens_out: int
    usage_counted: bool
    cost_nano_usd: int
    tenant_nano_usd: int


ATTEMPT_FIELDS = tuple(field.name for field in msgspec.structs.fields(Attempt))


def read_attempts(connection: sqlite3.Connection, request_id: str) -> list[Attempt]:
    """Return a request's attempts in order, open ones included."""
    rows = connection.execute(
        f"SELECT {', '.join(ATTEMPT_FIELDS)} FROM attempt "  # noqa: S608 -- names of our own columns
        "WHERE attempt_id >= ? AND attempt_id < ? AND request_id = ? ORDER BY number",
        (request_id + ".", request_id + "/", request_id),  # '/' follows '.': a range of the primary key
    )
    return [msgspec.convert(dict(zip(ATTEMPT_FIELDS, row, strict=True)), Attempt, strict=False) for row in rows]


def read_irregularities(connection: sqlite3.Connection, database: str = "main") -> dict[str, int]:
    """Return how often each thing happened that should not: duplicates, torn, rejected and unmatched records."""
    counts = {"torn_lines": 0, "missing_journal_files": 0, "duplicate_reserved": 0, "duplicate_settled": 0}
    counts.update(connection.execute(f"SELECT name, value FROM {database}.tally"))  # noqa: S608
    for table in ("rejected", "unmatched"):
        (counts[table],) = connection.execute(f"SELECT count(*) FROM {database}.{table}").fetchone()  # noqa: S608
    return counts


def create_or_check(connection: sqlite3.Connection, path: Path) -> None:
    """Create the tables in an empty file; refuse a file that is not ours or is of a later version."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if version or tables:
        check_version(connection, path)
        return
    connection.executescript(
        f"BEGIN IMMEDIATE; {TABLES} PRAGMA application_id = {APPLICATION_ID}; "
        f"PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
    )


def check_version(connection: sqlite3.Connection, path: Path, database: str = "main") -> None:
    """Raise InputError for a database that is not a ledger of this schema version."""
    (application,) = connection.execute(f"PRAGMA {database}.application_id").fetchone()
    (version,) = connection.execute(f"PRAGMA {database}.user_version").fetchone()
    if application != APPLICATION_ID:
        raise InputError(f"{path} is not a secondsource ledger: move it away or give another --state-dir")
    if version != SCHEMA_VERSION:
        raise InputError(
            f"{path} was written by a later secondsource (its schema is {version}, this one knows "
            f"{SCHEMA_VERSION}): upgrade secondsource or give another --state-dir"
        )
