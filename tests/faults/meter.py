"""The replicas' own meter beside the gateway's ledger: attempt by attempt, token by token.

A replica that told its usage is booked as it told it. Where it told none, or a false one, the row is marked and says
what the gateway could count: the events that carried text, or a token for each four bytes of an answer sent whole.
"""

import json
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from tests.faults.fault import Kind
from tests.faults.misbehave import Seen
from tests.ledger_records import ledger_rows

COLUMNS = (
    *("attempt_id", "request_id", "number", "kind", "replica", "streamed", "outcome", "status"),
    *("tokens_in", "tokens_out", "usage_counted", "cost_nano_usd", "tenant_nano_usd"),
)
# The replica's bytes may not all have been read: a reset overtakes them, or the gateway itself left.
NOT_ALL_READ = frozenset({"client_gone", "departed", "total_timeout", "first_token_timeout", "stalled"})
UNREAD_ENDS = frozenset(
    {Kind.CUT_RST, Kind.CUT_IN_CHUNK_SIZE, Kind.WRONG_CHUNK_SIZE, Kind.ENDLESS_LINE, Kind.ONE_MALFORMED}
)
BYTES_PER_TOKEN = 4
UNSEEN_TOKENS = 8
PLAUSIBLE_PER_EVENT = 2


@dataclass(frozen=True)
class Row:
    """One attempt as the ledger has it."""

    attempt_id: str
    request_id: str
    number: int
    kind: str
    replica: str
    streamed: int
    outcome: str | None  # None: not ended yet
    status: int
    tokens_in: int
    tokens_out: int
    usage_counted: int
    cost_nano_usd: int
    tenant_nano_usd: int


def read_rows(state_dir: Path, since_ns: int = 0) -> dict[str, Row]:
    """Return the ledger's rows by attempt, of those reserved since; what is still in the journal is not there."""
    sql = f"SELECT {', '.join(COLUMNS)} FROM attempt WHERE at_ns >= {since_ns}"
    rows = [Row(*row) for row in ledger_rows(state_dir, sql)]
    return {row.attempt_id: row for row in rows}


def of_requests(rows: dict[str, Row]) -> dict[str, list[Row]]:
    """Return each request's attempts, the first one first."""
    requests: defaultdict[str, list[Row]] = defaultdict(list)
    for row in sorted(rows.values(), key=lambda row: row.number):
        requests[row.request_id].append(row)
    return requests


def discrepancies(rows: dict[str, Row], metered: dict[str, list[Seen]]) -> list[str]:
    """Return all that does not fit between the books and what each replica, by its URL, has seen."""
    found = []
    seen_ids: set[str] = set()
    for replica, requests in metered.items():
        for seen in requests:
            if seen.attempt_id in seen_ids:
                found.append(f"attempt {seen.attempt_id} reached a replica twice")
            seen_ids.add(seen.attempt_id)
            row = rows.get(seen.attempt_id)
            if row is None or row.replica != replica:
                found.append(f"attempt {seen.attempt_id} at {replica}: not in the books ({row})")
            elif (wrong := discrepancy(row, seen)) is not None:
                found.append(f"attempt {seen.attempt_id}, {seen.fault}: {wrong}; metered {told(seen)}; booked {row}")
    unseen = (row for attempt_id, row in rows.items() if attempt_id not in seen_ids)
    answered = (row for row in unseen if row.outcome == "ok" or row.status or row.tokens_out)
    return found + [f"no replica has seen what is booked: {row}" for row in answered]


def told(seen: Seen) -> str:
    """Return what the replica metered, in short."""
    counts = f"{seen.tokens_in} in, {seen.tokens_sent} out in {seen.events_sent} events"
    return f"status {seen.status}, {counts}, finished {seen.finished}, usage told {seen.usage_sent}"


def discrepancy(row: Row, seen: Seen) -> str | None:
    """Return what does not fit between one attempt's row and what its replica did, or None."""
    if row.outcome is None:
        return "it is still open"
    if row.outcome == "interrupted":
        return None if row.tokens_out <= seen.events_sent else "more was booked than had been sent"
    if row.status not in {0, seen.status} and seen.status:
        return "another status"
    if row.status != 200:
        return "tokens without an answer" if row.tokens_in or row.tokens_out or row.outcome == "ok" else None
    if row.usage_counted:
        return _own_count(row, seen)
    if seen.usage_sent:
        fits = (row.tokens_in, row.tokens_out) == (seen.tokens_in, seen.tokens_sent)
        return None if fits else "not the usage that the replica told"
    return None if _believable_lie(row, seen) else "a usage was booked that the replica did not tell, or that is false"


def _believable_lie(row: Row, seen: Seen) -> bool:
    """Return whether a false usage is one that nobody could see through: no more tokens than bytes, about."""
    shown = len(seen.text_sent.encode()) + UNSEEN_TOKENS * (seen.body.get("n") or 1)
    plausible = PLAUSIBLE_PER_EVENT * seen.events_sent + UNSEEN_TOKENS  # up to here nobody looks
    return seen.fault.kind is Kind.LYING_USAGE and (row.tokens_out <= max(shown, plausible) or not seen.events_sent)


def is_late(row: Row, seen: Seen) -> bool:
    """Return whether a usage was told and not waited for: an answer that is whole is not held up for it."""
    return bool(row.usage_counted and seen.usage_sent and row.outcome == "ok")


def _own_count(row: Row, seen: Seen) -> str | None:
    if not row.streamed and seen.usage_sent and row.outcome == "ok":
        return "the replica told its usage, and it was not booked"
    if not row.streamed:
        shown = -(-len(seen.text_sent.encode()) // BYTES_PER_TOKEN) if row.outcome == "ok" else 0
        return None if row.tokens_out == shown else f"expected {shown} tokens out"
    if row.outcome in NOT_ALL_READ or seen.fault.kind in UNREAD_ENDS:
        return None if row.tokens_out <= seen.events_sent else "more was counted than was sent"
    return None if row.tokens_out == seen.events_sent else "not every event was counted"


def late(rows: dict[str, Row], metered: dict[str, list[Seen]]) -> int:
    """Return how many streams were booked by our own count because their usage came later than is waited for."""
    seen = (one for requests in metered.values() for one in requests)
    return sum(is_late(rows[one.attempt_id], one) for one in seen if one.attempt_id in rows)


def write_meter(file: TextIO, rows: dict[str, Row], metered: dict[str, list[Seen]]) -> int:
    """Write the meter file of every attempt whose usage was told to its end; returns how many."""
    lines: list[dict[str, Any]] = []
    for requests in metered.values():
        for seen in requests:
            row = rows.get(seen.attempt_id)
            if seen.usage_sent and (row is None or (row.outcome == "ok" and not is_late(row, seen))):
                counts = {"tokens_in": seen.tokens_in, "tokens_out": seen.tokens_sent}
                lines.append({"attempt_id": seen.attempt_id, **counts})
    file.writelines(json.dumps(line) + "\n" for line in lines)
    return len(lines)


def audit(state_dir: Path, meter: Path) -> str | None:
    """Run `secondsource bill --audit --meter`; returns what it found, or None."""
    command = [sys.executable, "-m", "secondsource", "bill", "--state-dir", str(state_dir), "--audit", "--json"]
    ran = subprocess.run([*command, "--meter", str(meter)], capture_output=True, text=True, timeout=600, check=False)
    return None if ran.returncode == 0 else f"bill --audit exits {ran.returncode}: {ran.stdout}{ran.stderr}"
