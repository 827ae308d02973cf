"""The page Spend: the ledger by day or hour and by one dimension, and what the second source saved or cost.

Sums are the ledger's integers of nano-dollars; dollars leave as exact decimal text.
"""

import csv
import io
import time
from collections import defaultdict
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

import msgspec

from secondsource.console.alone import Alone, SupplierUse, cheapest_alone
from secondsource.core.money import dollars
from secondsource.gateway.books.billing import Dimension
from secondsource.gateway.books.ledger_reading import Reading, read_books

SECOND_NS = 1_000_000_000
HOUR_NS = 3600 * SECOND_NS
DAY_NS = 24 * HOUR_NS
RENTED = (Dimension.SUPPLIER, Dimension.CHIP, Dimension.POOL, Dimension.MODEL)
SHOWN_BY = (*RENTED, Dimension.TENANT, Dimension.LANE)


class Span(StrEnum):
    """How far back to look."""

    DAY = "24h"
    WEEK = "7d"
    MONTH = "30d"
    QUARTER = "90d"


SPAN_NS = {Span.DAY: DAY_NS, Span.WEEK: 7 * DAY_NS, Span.MONTH: 30 * DAY_NS, Span.QUARTER: 90 * DAY_NS}


class SpendLine(msgspec.Struct, frozen=True, kw_only=True):
    """One key in one hour or day, or (with `at` null) in all of them; `loaded_usd` is null where rent has no key."""

    at: int | None  # the beginning, in seconds since 1970, UTC
    key: str
    attempts: int
    failed: int
    tokens_in: int
    tokens_out: int
    marginal_usd: str
    tenant_usd: str
    loaded_usd: str | None


class Spend(msgspec.Struct, frozen=True, kw_only=True):
    """What the page shows."""

    by: Dimension
    span: Span
    step_s: int
    at: list[int]
    lines: list[SpendLine]
    totals: list[SpendLine]
    alone: Alone | None


class _Sums(msgspec.Struct):
    attempts: int = 0
    failed: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: int = 0
    tenant: int = 0
    rented: int = 0


def read_spend(state_dir: Path, span: Span, by: Dimension, now_ns: int | None = None) -> Spend:
    """Sum the books; raises InputError when they cannot be read."""
    now = time.time_ns() if now_ns is None else now_ns
    step = HOUR_NS if span is Span.DAY else DAY_NS
    since = (now - SPAN_NS[span]) // step * step + step
    with read_books(state_dir) as reading:
        sums = _by_step(reading, by, since, now, step)
        uses = _uses(reading, since, now)
    totals: dict[str, _Sums] = defaultdict(_Sums)
    for (_, key), one in sums.items():
        _add(totals[key], one)
    rented = by in RENTED
    return Spend(
        by=by,
        span=span,
        step_s=step // SECOND_NS,
        at=[at // SECOND_NS for at in range(since, now + 1, step)],
        lines=[_line(at // SECOND_NS, key, one, rented=rented) for (at, key), one in sorted(sums.items())],
        totals=[_line(None, key, one, rented=rented) for key, one in sorted(totals.items())],
        alone=cheapest_alone(uses),
    )


def _by_step(reading: Reading, by: Dimension, since: int, until: int, step: int) -> dict[tuple[int, str], _Sums]:
    sums: dict[tuple[int, str], _Sums] = defaultdict(_Sums)
    hosted = "sum(cost_nano_usd) FILTER (WHERE pool NOT IN (SELECT pool FROM ledger.rent))"
    rows = reading.connection.execute(
        f"SELECT at_ns / ? * ?, {by.value}, count(*), "  # noqa: S608 -- our own column
        "count(*) FILTER (WHERE outcome NOT IN ('ok', 'client_gone')), "
        "sum(tokens_in), sum(tokens_out), sum(cost_nano_usd), "
        f"sum(tenant_nano_usd), coalesce({hosted}, 0) FROM entry WHERE at_ns >= ? AND at_ns < ? GROUP BY 1, 2",
        (step, step, since, until),
    )
    for at, key, *values in rows:
        sums[at, key] = _Sums(*values)
    if by in RENTED:
        for key, at, amount in _rent_by_step(reading, by, since, until, step):
            sums[at, key].rented += amount
    return sums


def _rent_by_step(reading: Reading, by: Dimension, since: int, until: int, step: int) -> list[tuple[str, int, int]]:
    scaled: dict[tuple[str, int], int] = defaultdict(int)
    for key, replicas, price, start, end in reading.connection.execute(
        f"SELECT {by.value}, replicas, nano_usd_per_replica_hour, from_ns, until_ns FROM ledger.rent "  # noqa: S608 -- our own column
        "WHERE until_ns > ? AND from_ns < ?",
        (since, until),
    ):
        first, last = max(start, since), min(end, until)
        for at in range(first // step * step, last, step):
            scaled[key, at] += replicas * price * (min(last, at + step) - max(first, at))
    return [(key, at, (amount + HOUR_NS // 2) // HOUR_NS) for (key, at), amount in scaled.items()]


def _uses(reading: Reading, since: int, until: int) -> list[SupplierUse]:
    """Return tokens, cost and rent of each supplier and model."""
    uses: dict[tuple[str, str], SupplierUse] = {}
    hosted = "sum(cost_nano_usd) FILTER (WHERE pool NOT IN (SELECT pool FROM ledger.rent))"
    for supplier, model, tokens, cost, by_token in reading.connection.execute(
        f"SELECT supplier, model, sum(tokens_out), sum(cost_nano_usd), coalesce({hosted}, 0) FROM entry "  # noqa: S608
        "WHERE at_ns >= ? AND at_ns < ? GROUP BY 1, 2",
        (since, until),
    ):
        uses[supplier, model] = SupplierUse(supplier, model, tokens, cost, by_token)
    for supplier, model, replicas, price, start, end in reading.connection.execute(
        "SELECT supplier, model, replicas, nano_usd_per_replica_hour, from_ns, until_ns FROM ledger.rent "
        "WHERE until_ns > ? AND from_ns < ?",
        (since, until),
    ):
        use = uses.setdefault((supplier, model), SupplierUse(supplier, model, 0, 0, 0))
        use.loaded_nano_usd += replicas * price * (min(end, until) - max(start, since)) // HOUR_NS
    return list(uses.values())


def _add(total: _Sums, one: _Sums) -> None:
    for name in one.__struct_fields__:
        setattr(total, name, getattr(total, name) + getattr(one, name))


def _line(at: int | None, key: str, one: _Sums, *, rented: bool) -> SpendLine:
    return SpendLine(
        at=at,
        key=key,
        attempts=one.attempts,
        failed=one.failed,
        tokens_in=one.tokens_in,
        tokens_out=one.tokens_out,
        marginal_usd=f"{dollars(one.cost):f}",
        tenant_usd=f"{dollars(one.tenant):f}",
        loaded_usd=f"{dollars(one.rented):f}" if rented else None,
    )


def as_csv(spend: Spend) -> str:
    """Return the lines as CSV, without totals, so that a sum over a column is not doubled."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names: Sequence[str] = SpendLine.__struct_fields__[2:]
    writer.writerow(["from_utc", spend.by.value, *names])
    for line in spend.lines:
        at = time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime(line.at))
        values = [getattr(line, name) for name in names]
        writer.writerow([at, line.key, *("" if value is None else value for value in values)])
    return out.getvalue()
