"""The bill: what attempts cost, by supplier, chip, pool, tenant, lane, model or hour.

Sums are exact integers of nano-dollars and tokens. The marginal price of a token counts the seconds that made
it; the loaded price counts every hour that was rented, busy or idle, and so has no tenant or lane.
"""

from collections.abc import Sequence
from decimal import Decimal
from enum import StrEnum

import msgspec

from secondsource.core.money import dollars
from secondsource.gateway.books.ledger_reading import Reading
from secondsource.policy.accounting import OPERATORS_OWN

NANOSECONDS_PER_HOUR = 3_600_000_000_000
TOKENS_PER_PRICE = 1_000_000


class Dimension(StrEnum):
    """What a bill is divided by."""

    SUPPLIER = "supplier"
    CHIP = "chip"
    POOL = "pool"
    TENANT = "tenant"
    LANE = "lane"
    HOUR = "hour"
    MODEL = "model"


HOUR_FORMAT = "%Y-%m-%dT%H:00Z"
KEY_SQL = {dimension: dimension.value for dimension in Dimension} | {
    Dimension.HOUR: f"strftime('{HOUR_FORMAT}', at_ns / 1000000000, 'unixepoch')"
}
RENTED = frozenset({Dimension.SUPPLIER, Dimension.CHIP, Dimension.POOL, Dimension.MODEL})


class Period(msgspec.Struct, frozen=True):
    """From `since_ns` until just before `until_ns`, by when an attempt was reserved."""

    since_ns: int = -(2**63)
    until_ns: int = 2**63 - 1


class BillLine(msgspec.Struct, frozen=True, kw_only=True):
    """The sums of one key; `rented_nano_usd` is None where rent cannot be divided so."""

    key: str
    requests: int  # that have at least one attempt here
    attempts: int
    failed: int  # attempts that ended and whose cost is the operator's
    open: int  # attempts that have not ended
    tokens_in: int
    tokens_cached: int
    tokens_out: int
    replica_ns: int
    cost_nano_usd: int
    tenant_nano_usd: int
    rented_nano_usd: int | None  # rent of the period, idle hours included, and hosted pools' cost

    @property
    def operator_nano_usd(self) -> int:
        """The part of the cost that no tenant bears."""
        return self.cost_nano_usd - self.tenant_nano_usd

    @property
    def marginal(self) -> Decimal | None:
        """Dollars per million output tokens, for the seconds used; None without any."""
        return _per_million(self.cost_nano_usd, self.tokens_out)

    @property
    def loaded(self) -> Decimal | None:
        """Dollars per million output tokens, with idle hours; None without any, or where it cannot be told."""
        return None if self.rented_nano_usd is None else _per_million(self.rented_nano_usd, self.tokens_out)


class Bill(msgspec.Struct, frozen=True, kw_only=True):
    """A bill's lines, in the order of their keys, and the same over all of them."""

    by: Dimension
    lines: list[BillLine]
    total: BillLine
    pending_records: int


SUM_COLUMNS = (
    "count(DISTINCT request_id)",
    "count(*)",
    f"count(*) FILTER (WHERE outcome IN ({', '.join(repr(outcome.value) for outcome in sorted(OPERATORS_OWN))}))",
    "count(*) FILTER (WHERE outcome IS NULL)",
    *(
        f"coalesce(sum({column}), 0)"
        for column in ("tokens_in", "tokens_cached", "tokens_out", "replica_ns", "cost_nano_usd", "tenant_nano_usd")
    ),
)
SUM_NAMES = (
    *("requests", "attempts", "failed", "open", "tokens_in", "tokens_cached", "tokens_out", "replica_ns"),
    *("cost_nano_usd", "tenant_nano_usd"),
)


def make_bill(reading: Reading, by: Dimension, period: Period) -> Bill:
    """Return the bill of a period."""
    rents = _rents(reading, by, period) if by in RENTED else None
    return Bill(
        by=by,
        lines=sorted(_lines(reading, KEY_SQL[by], period, rents), key=lambda line: line.key),
        total=_total(reading, period),
        pending_records=reading.pending_records,
    )


def _total(reading: Reading, period: Period) -> BillLine:
    rents = _rents(reading, None, period)
    [total] = _lines(reading, "'total'", period, rents) or [_line("total", (0,) * len(SUM_NAMES), rents)]
    return total


def _lines(reading: Reading, key: str, period: Period, rents: dict[str, int] | None) -> list[BillLine]:
    # SQLite's sum() of integers is exact, and an error where it would not be.
    rows = reading.connection.execute(
        f"SELECT {key}, {', '.join(SUM_COLUMNS)} FROM entry WHERE at_ns >= ? AND at_ns < ? GROUP BY 1",  # noqa: S608
        (period.since_ns, period.until_ns),
    ).fetchall()
    lines = [_line(name, sums, rents) for name, *sums in rows]
    known = {line.key for line in lines}
    idle = [name for name in rents or () if name not in known]
    return lines + [_line(name, (0,) * len(SUM_NAMES), rents) for name in idle]


def _line(key: str, sums: Sequence[int], rents: dict[str, int] | None) -> BillLine:
    named = dict(zip(SUM_NAMES, sums, strict=True))
    return msgspec.convert(
        {"key": key, "rented_nano_usd": None if rents is None else rents.get(key, 0), **named}, BillLine
    )


def _rents(reading: Reading, by: Dimension | None, period: Period) -> dict[str, int]:
    """Return by key what was rented in a period, and what attempts at pools without rent cost."""
    scaled: dict[str, int] = {}
    column = by.value if by is not None else "'total'"
    for key, replicas, price, start, end in reading.connection.execute(
        f"SELECT {column}, replicas, nano_usd_per_replica_hour, from_ns, until_ns FROM ledger.rent"  # noqa: S608
    ):
        rented_ns = max(min(end, period.until_ns) - max(start, period.since_ns), 0)
        scaled[key] = scaled.get(key, 0) + replicas * price * rented_ns
    rents = {key: _divide(amount, NANOSECONDS_PER_HOUR) for key, amount in scaled.items()}
    for key, cost in reading.connection.execute(
        f"SELECT {column}, sum(cost_nano_usd) FROM entry "  # noqa: S608
        "WHERE at_ns >= ? AND at_ns < ? AND pool NOT IN (SELECT pool FROM ledger.rent) GROUP BY 1",
        (period.since_ns, period.until_ns),
    ):
        rents[key] = rents.get(key, 0) + cost
    return rents


def _divide(numerator: int, denominator: int) -> int:
    return (numerator + denominator // 2) // denominator


def _per_million(amount_nano_usd: int, tokens: int) -> Decimal | None:
    return dollars(amount_nano_usd * TOKENS_PER_PRICE) / tokens if tokens else None
