"""The page Requests: finds requests in the ledger by id, tenant and outcome, and refused ones in the request log."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from secondsource.console.log_tail import LogTail
from secondsource.core.money import dollars
from secondsource.gateway.books.ledger_reading import Reading, read_books
from secondsource.gateway.request_log import RequestLine

MOST_FOUND = 100
MOST_IDS = 50
SECOND_NS = 1_000_000_000
REFUSED = "refused"  # beside the ledger's outcomes: no replica was asked
FAILOVER = "failover"  # more than one attempt
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DECODER = msgspec.json.Decoder(RequestLine)


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What is looked for; empty means any. An id may be the beginning of one."""

    ids: tuple[str, ...] = ()
    tenant: str = ""
    outcome: str = ""
    hours: int = 24


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """One request; `outcome` is its last attempt's, null while that runs, or "refused"."""

    request_id: str
    at: datetime
    tenant: str
    lane: str
    model: str
    outcome: str | None
    reason: str  # why it was refused
    suppliers: list[str]
    attempts: int
    tokens_out: int
    cost_usd: str
    duration_s: float


class FoundAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The newest first; `more` says that there were too many to show."""

    requests: list[Found]
    more: bool


def find(state_dir: Path, wanted: Wanted, now_ns: int | None = None) -> FoundAnswer:
    """Look; raises InputError when the books cannot be read."""
    since = (time.time_ns() if now_ns is None else now_ns) - wanted.hours * 3600 * SECOND_NS
    found: list[Found] = []
    if wanted.outcome != REFUSED:
        with read_books(state_dir) as reading:
            found = _in_ledger(reading, wanted, since)
    if wanted.outcome in ("", REFUSED):
        known = {one.request_id for one in found}
        found += [one for one in _in_log(state_dir, wanted, since) if one.request_id not in known]
    found.sort(key=lambda one: one.at, reverse=True)
    return FoundAnswer(requests=found[:MOST_FOUND], more=len(found) > MOST_FOUND)


def logged(state_dir: Path, request_id: str) -> RequestLine | None:
    """Return a request's line of the log, where it is among the newest."""
    mark = request_id.encode()
    return next(
        (line for line in map(_decoded, _newest(state_dir, (mark,))) if line and line.request_id == request_id), None
    )


def _in_ledger(reading: Reading, wanted: Wanted, since: int) -> list[Found]:
    conditions, values = ["at_ns >= ?"], [since]
    arguments: list[object] = list(values)
    if wanted.ids:
        conditions = [f"({' OR '.join(['(attempt_id >= ? AND attempt_id < ?)'] * len(wanted.ids))})"]
        arguments = [bound for name in wanted.ids for bound in (name, name + "\x7f")]
    if wanted.tenant:
        conditions.append("tenant = ?")
        arguments.append(wanted.tenant)
    having = ""
    if wanted.outcome == FAILOVER:
        having = "HAVING count(*) > 1"
    elif wanted.outcome:
        having = "HAVING sum(outcome = ?) > 0"
        arguments.append(wanted.outcome)
    rows = reading.connection.execute(
        "SELECT request_id, min(at_ns), tenant, lane, model, group_concat(DISTINCT supplier), count(*), "  # noqa: S608 -- conditions of ours
        "sum(tokens_out), sum(cost_nano_usd), max(coalesce(settled_at_ns, at_ns)), max(printf('%04d', number) || ':' "
        "|| coalesce(outcome, '')) "
        f"FROM entry WHERE {' AND '.join(conditions)} GROUP BY request_id {having} "
        f"ORDER BY 2 DESC LIMIT {MOST_FOUND + 1}",
        arguments,
    )
    return [_row(row) for row in rows]


def _row(row: Sequence[object]) -> Found:
    request_id, at_ns, tenant, lane, model, suppliers, attempts, tokens, cost, ended_ns, last = row
    assert isinstance(at_ns, int)
    assert isinstance(ended_ns, int)
    assert isinstance(cost, int)
    return Found(
        request_id=str(request_id),
        at=EPOCH + timedelta(microseconds=at_ns // 1000),
        tenant=str(tenant),
        lane=str(lane),
        model=str(model),
        outcome=str(last).partition(":")[2] or None,
        reason="",
        suppliers=str(suppliers).split(","),
        attempts=int(str(attempts)),
        tokens_out=int(str(tokens)),
        cost_usd=f"{dollars(cost):f}",
        duration_s=(ended_ns - at_ns) / 1e9,
    )


def _in_log(state_dir: Path, wanted: Wanted, since: int) -> list[Found]:
    lines = map(_decoded, _newest(state_dir, tuple(name.encode() for name in wanted.ids)))
    oldest = EPOCH + timedelta(microseconds=since // 1000)
    return [
        Found(
            request_id=line.request_id,
            at=line.at,
            tenant=line.tenant,
            lane=line.lane,
            model=line.model,
            outcome=REFUSED,
            reason=f"{line.status} {line.refusal}",
            suppliers=[],
            attempts=0,
            tokens_out=0,
            cost_usd="0",
            duration_s=line.duration_s,
        )
        for line in lines
        if line is not None
        and line.refusal is not None
        and (line.at >= oldest or wanted.ids)
        and (not wanted.tenant or line.tenant == wanted.tenant)
        and (not wanted.ids or line.request_id.startswith(wanted.ids))
    ]


def _newest(state_dir: Path, marks: tuple[bytes, ...]) -> list[bytes]:
    tail = LogTail(state_dir)
    try:
        lines = tail.read()
    finally:
        tail.close()
    if marks:
        return [line for line in lines if any(mark in line for mark in marks)]
    return [line for line in lines if b'"refusal":null' not in line]


def _decoded(data: bytes) -> RequestLine | None:
    try:
        return _DECODER.decode(data)
    except msgspec.DecodeError:
        return None
