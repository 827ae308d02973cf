"""The audit: every row of the books against the rules of bookkeeping, every sum against its rows.

The sums are made again here in Python, row by row, and share nothing with the bill's SQL but the rows.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from secondsource.core.errors import InputError
from secondsource.core.records import Kind, Outcome
from secondsource.gateway.books.billing import HOUR_FORMAT, SUM_NAMES, Dimension, Period, make_bill
from secondsource.gateway.books.ledger_reading import Reading
from secondsource.gateway.books.ledger_schema import ATTEMPT_FIELDS, Attempt, read_irregularities
from secondsource.policy.accounting import OPERATORS_OWN

TOLERATED = frozenset({"torn_lines"})  # half a line was never reported as written


class Audited(msgspec.Struct, frozen=True):
    """What an audit found: `misfit` is the first thing that does not fit, or None."""

    attempts: int
    metered: int
    misfit: str | None


class Metered(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of a replica's own meter: of one attempt when `attempt_id` is given, else of all at a replica."""

    tokens_in: int
    tokens_out: int
    attempt_id: str | None = None
    replica: str | None = None


class _Sums:
    """The sums of one key of one dimension, made again."""

    __slots__ = ("_last_request", "values")

    def __init__(self) -> None:
        self.values = dict.fromkeys(SUM_NAMES, 0)
        self._last_request = ""

    def add(self, attempt: Attempt) -> None:
        """Add a row; rows come in the order of their requests, so a request is new when it is not the last one."""
        self.values["requests"] += attempt.request_id != self._last_request
        self._last_request = attempt.request_id
        self.values["attempts"] += 1
        self.values["failed"] += attempt.outcome in OPERATORS_OWN
        self.values["open"] += attempt.outcome is None
        for name in SUM_NAMES[4:]:
            self.values[name] += getattr(attempt, name)


def audit(reading: Reading, meter: Sequence[Metered]) -> Audited:
    """Return the first thing in the books that does not fit, if there is one."""
    checker = _Checker(reading.connection, meter)
    misfit = next(checker.misfits(reading), None)
    return Audited(checker.attempts, len(meter), misfit)


def read_meter(path: Path) -> list[Metered]:
    """Return a meter file's lines, one JSON object each; raises InputError that names the line."""
    decoder = msgspec.json.Decoder(Metered)
    metered = []
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise InputError(f"cannot read the meter file {path}: {error.strerror}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = decoder.decode(line)
        except msgspec.DecodeError as error:
            raise InputError(f"{path}:{number}: {error}; expected {EXPECTED_LINE}") from error
        if record.attempt_id is None and record.replica is None:
            raise InputError(f"{path}:{number}: neither attempt_id nor replica; expected {EXPECTED_LINE}")
        metered.append(record)
    return metered


EXPECTED_LINE = '{"attempt_id": "…", "tokens_in": 11, "tokens_out": 7}, or "replica": "http://…" for its sums'


class _Checker:
    def __init__(self, connection: sqlite3.Connection, meter: Sequence[Metered]) -> None:
        self.attempts = 0
        self._connection = connection
        self._sums: dict[tuple[Dimension, str], _Sums] = {}
        self._metered = {record.attempt_id: record for record in meter if record.attempt_id is not None}
        self._metered_replicas = [record for record in meter if record.attempt_id is None]
        self._by_replica: dict[str, list[int]] = {}
        self._closed = {row[0] for row in connection.execute("SELECT writer_id FROM ledger.writer WHERE closed = 1")}

    def misfits(self, reading: Reading) -> Iterator[str]:
        """Yield what does not fit, the rows first."""
        yield from self._file_is_whole()
        yield from self._rows()
        yield from self._irregularities()
        yield from self._metered_rest()
        for dimension in Dimension:
            yield from self._bill_fits(reading, dimension)

    def _file_is_whole(self) -> Iterator[str]:
        (verdict,) = self._connection.execute("PRAGMA ledger.integrity_check(1)").fetchone()
        if verdict != "ok":
            yield f"the ledger file is damaged: {verdict}"

    def _rows(self) -> Iterator[str]:
        last: Attempt | None = None
        rows = self._connection.execute(
            f"SELECT {', '.join(ATTEMPT_FIELDS)}, writer_id FROM entry ORDER BY request_id, number"  # noqa: S608
        )
        for *values, writer_id in rows:
            row = dict(zip(ATTEMPT_FIELDS, values, strict=True))
            try:
                attempt = msgspec.convert(row, Attempt, strict=False)
            except msgspec.ValidationError as error:
                yield f"attempt {row['attempt_id']}: {error}"
                continue
            broken = _broken_rule(attempt) or _broken_order(attempt, last) or self._broken_meter(attempt)
            if attempt.outcome is None and writer_id in self._closed:
                broken = "it is open, and the process that made it is gone"
            if broken:
                yield f"attempt {attempt.attempt_id}: {broken}"
            self._count(attempt)
            last = attempt

    def _count(self, attempt: Attempt) -> None:
        self.attempts += 1
        for dimension in Dimension:
            self._sums.setdefault((dimension, _key(attempt, dimension)), _Sums()).add(attempt)
        tokens = self._by_replica.setdefault(attempt.replica, [0, 0])
        tokens[0] += attempt.tokens_in
        tokens[1] += attempt.tokens_out

    def _broken_meter(self, attempt: Attempt) -> str | None:
        metered = self._metered.pop(attempt.attempt_id, None)
        booked = (attempt.tokens_in, attempt.tokens_out)
        if metered is None or booked == (metered.tokens_in, metered.tokens_out):
            return None
        return f"booked {_tokens(*booked)}; its replica metered {_tokens(metered.tokens_in, metered.tokens_out)}"

    def _irregularities(self) -> Iterator[str]:
        for database, of in (("ledger", "ledger"), ("main", "journal")):
            for name, count in read_irregularities(self._connection, database).items():
                if count and name not in TOLERATED:
                    yield f"the {of} has {count} {name.replace('_', ' ')}; see docs/ledger.md"

    def _metered_rest(self) -> Iterator[str]:
        for attempt_id in self._metered:
            yield f"attempt {attempt_id}: its replica metered it, and it is not in the books"
        for metered in self._metered_replicas:
            booked = self._by_replica.get(metered.replica or "", [0, 0])
            if booked != [metered.tokens_in, metered.tokens_out]:
                yield (
                    f"replica {metered.replica}: booked {_tokens(*booked)}; it metered "
                    f"{_tokens(metered.tokens_in, metered.tokens_out)}"
                )

    def _bill_fits(self, reading: Reading, dimension: Dimension) -> Iterator[str]:
        bill = make_bill(reading, dimension, Period())
        lines = {line.key: line for line in bill.lines if line.attempts}
        keys = {key for of, key in self._sums if of is dimension}
        for key in sorted(keys | lines.keys()):
            sums, line = self._sums.get((dimension, key)), lines.get(key)
            if sums is None or line is None:
                yield f"the bill by {dimension}: {key} is {'in' if sums is None else 'not in'} it and should not be so"
                continue
            for name, value in sums.values.items():
                if getattr(line, name) != value:
                    yield f"the bill by {dimension}: {key} has {name} {getattr(line, name)}; its rows add up to {value}"


def _broken_rule(attempt: Attempt) -> str | None:
    """Return which rule a row breaks by itself."""
    rules = (
        (attempt.attempt_id == f"{attempt.request_id}.{attempt.number}", "its id is not its request's and number"),
        (attempt.number >= 1, "its number is below 1"),
        (min(attempt.tokens_in, attempt.tokens_cached, attempt.tokens_out) >= 0, "it has fewer than no tokens"),
        (attempt.tokens_cached <= attempt.tokens_in, "more input tokens were cached than there were"),
        (0 <= attempt.tenant_nano_usd <= attempt.cost_nano_usd, "the tenant's part is not within the cost"),
        (
            attempt.tenant_nano_usd == 0 or attempt.outcome not in OPERATORS_OWN,
            "it failed, and the tenant bears a part of it",
        ),
        (
            attempt.settled_at_ns is None or attempt.settled_at_ns >= attempt.at_ns,
            "it was settled before it was reserved",
        ),
        (
            0 <= attempt.first_token_ns <= max(attempt.duration_ns, 0) or attempt.outcome is None,
            "its first token came after its end",
        ),
        (attempt.outcome is not None or attempt.tenant_nano_usd == 0, "it is open, and a tenant bears a part of it"),
    )
    return next((text for holds, text in rules if not holds), None)


def _broken_order(attempt: Attempt, last: Attempt | None) -> str | None:
    """Return which rule a row breaks beside the row before it."""
    before = last if last is not None and last.request_id == attempt.request_id else None
    if attempt.number != (before.number + 1 if before else 1):
        return f"attempt {before.number + 1 if before else 1} of its request is missing"
    if (attempt.kind is Kind.FIRST) != (before is None):
        return f"it is number {attempt.number} and of kind {attempt.kind}"
    if before is not None and before.outcome is Outcome.OK:
        return "the attempt before it had ended well"
    return None


def _key(attempt: Attempt, dimension: Dimension) -> str:
    if dimension is Dimension.HOUR:
        return datetime.fromtimestamp(attempt.at_ns // 1_000_000_000, UTC).strftime(HOUR_FORMAT)
    return str(getattr(attempt, dimension.value))


def _tokens(tokens_in: int, tokens_out: int) -> str:
    return f"{tokens_in} tokens in and {tokens_out} out"
