"""Records for tests of the books: plausible ones, each field open to change."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from secondsource.core.records import Kind, Noted, Outcome, Reserved, Settled

AT_NS = 1_700_000_000_000_000_000
SECOND_NS = 1_000_000_000


def reserved(request: str = "r1", number: int = 1, **changes: Any) -> Reserved:
    """Return a reservation."""
    record = Reserved(
        attempt_id=f"{request}.{number}",
        request_id=request,
        number=number,
        kind=Kind.FIRST if number == 1 else Kind.RETRY,
        at_ns=AT_NS,
        tenant="acme",
        lane="paid",
        key_id="0123456789ab",
        endpoint="/v1/chat/completions",
        model="chat",
        streamed=True,
        pool="azure-h100",
        supplier="azure",
        chip="h100-sxm",
        replica="http://127.0.0.1:9001",
    )
    return msgspec.structs.replace(record, **changes)


def noted(request: str = "r1", number: int = 1, **changes: Any) -> Noted:
    """Return a note that 5 tokens were delivered a second after the reservation."""
    record = Noted(
        attempt_id=f"{request}.{number}",
        at_ns=AT_NS + SECOND_NS,
        first_token_ns=SECOND_NS // 2,
        replica_ns=SECOND_NS,
        tokens_in=11,
        tokens_cached=0,
        tokens_out=5,
        cost_nano_usd=900,
    )
    return msgspec.structs.replace(record, **changes)


def settled(request: str = "r1", number: int = 1, **changes: Any) -> Settled:
    """Return a settlement of a good answer of 7 tokens."""
    record = Settled(
        attempt_id=f"{request}.{number}",
        at_ns=AT_NS + 2 * SECOND_NS,
        outcome=Outcome.OK,
        status=200,
        duration_ns=2 * SECOND_NS,
        first_token_ns=SECOND_NS // 2,
        replica_ns=2 * SECOND_NS,
        tokens_in=11,
        tokens_cached=3,
        tokens_out=7,
        usage_counted=False,
        cost_nano_usd=1234,
        tenant_nano_usd=1234,
    )
    return msgspec.structs.replace(record, **changes)


def ledger_rows(state_dir: Path, sql: str = "SELECT * FROM attempt ORDER BY attempt_id") -> list[tuple[Any, ...]]:
    """Return what a query of the ledger file says."""
    with closing(sqlite3.connect(state_dir / "ledger.sqlite3")) as connection:
        return connection.execute(sql).fetchall()
