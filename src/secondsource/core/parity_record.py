"""What `secondsource parity` writes down of a pool and the gateway reads: a ruling, and of whom it was made.

One JSON file a pool, `<state_dir>/parity/<pool>.json`, replaced whole. The gateway reads the fields below; the
rest of the file is the report, for people.
"""

from enum import StrEnum
from pathlib import Path

import msgspec

from secondsource.core.fleet import Pool


class Ruling(StrEnum):
    """What was found out about a pool."""

    AT_PAR = "at_par"
    NOT_AT_PAR = "not_at_par"
    NOT_ENOUGH_EVIDENCE = "not_enough_evidence"


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What makes a pool answer as it does, as far as a fleet file says it: a ruling holds for this and no other."""

    supplier: str
    chip: str
    model: str
    upstream_model: str


class ParityRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a pool's file that decides whether it gets traffic."""

    ruling: Ruling
    identity: Identity


def identity_of(pool: Pool) -> Identity:
    """Return what a ruling on this pool holds for."""
    return Identity(supplier=pool.supplier, chip=pool.chip, model=pool.model, upstream_model=pool.upstream_model)


def is_at_par(pool: Pool, record: ParityRecord | None) -> bool:
    """Return whether the record says that this very pool is at par."""
    return record is not None and record.ruling is Ruling.AT_PAR and record.identity == identity_of(pool)


def record_path(state_dir: Path, pool: str) -> Path:
    """Return where the record of a pool is kept; a pool's name is safe in a path."""
    return state_dir / "parity" / f"{pool}.json"


def read_record(path: Path) -> ParityRecord | None:
    """Return the record at `path`, or None when there is none that can be read: no ruling is no parity."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=ParityRecord)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
