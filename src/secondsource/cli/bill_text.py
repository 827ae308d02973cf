"""A bill as a table for people, as JSON and as CSV; dollars leave as decimals."""

import csv
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.table import Table

from secondsource.core.money import dollars, format_usd
from secondsource.gateway.books.billing import Bill, BillLine, Period

PRICE_STEP = Decimal("0.000001")
WIDTH_WITHOUT_TERMINAL = 200  # so that a pipe or a file gets whole lines
Value = str | int | None


def as_json(bill: Bill, period: Period, path: Path) -> dict[str, object]:
    """Return the stable JSON form; money is decimal text in dollars, to the nano-dollar."""
    return {
        "by": bill.by.value,
        "ledger": str(path),
        "since": _time(period.since_ns),
        "until": _time(period.until_ns),
        "pending_records": bill.pending_records,
        "lines": [_values(line) for line in bill.lines],
        "total": _values(bill.total),
    }


def write_csv(bill: Bill, out: TextIO) -> None:
    """Write a header and the lines, without a total, so that a sum over a column is not doubled."""
    writer = csv.writer(out, lineterminator="\n")
    names = list(_values(bill.total))
    writer.writerow([bill.by.value, *names[1:]])
    for line in bill.lines:
        writer.writerow(["" if value is None else value for value in _values(line).values()])


def print_table(bill: Bill, console: Console, path: Path) -> None:
    """Print the bill for a person."""
    if not console.is_terminal:
        console = Console(width=WIDTH_WITHOUT_TERMINAL)
    table = Table(show_footer=True)
    table.add_column(bill.by.value, "total", overflow="fold")
    rows = [_cells(line) for line in bill.lines]
    footer = _cells(bill.total)
    for place, heading in enumerate(HEADINGS):
        table.add_column(heading, footer[place], justify="right")
    for line, cells in zip(bill.lines, rows, strict=True):
        table.add_row(line.key or "(none)", *cells)
    console.print(table)
    notes = [f"Ledger: {path}"]
    if bill.pending_records:
        notes.append(f"{bill.pending_records} records are not in it yet, and are included from the journal.")
    if bill.total.open:
        notes.append(f"{bill.total.open} attempts have not ended; what they cost is not known yet.")
    console.print("\n".join(notes), markup=False, highlight=False, soft_wrap=True)


HEADINGS = (
    *("requests", "attempts", "failed", "tokens in", "cached", "tokens out"),
    *("cost", "tenants'", "operator's", "$/M out", "loaded $/M out"),
)


def _cells(line: BillLine) -> tuple[str, ...]:
    counts = (line.requests, line.attempts, line.failed, line.tokens_in, line.tokens_cached, line.tokens_out)
    amounts = (line.cost_nano_usd, line.tenant_nano_usd, line.operator_nano_usd)
    prices = (line.marginal, line.loaded)
    return (
        *(f"{count:,}" for count in counts),
        *(format_usd(amount) for amount in amounts),
        *("-" if price is None else f"{price:,.4f}" for price in prices),
    )


def _values(line: BillLine) -> Mapping[str, Value]:
    return {
        "key": line.key,
        "requests": line.requests,
        "attempts": line.attempts,
        "failed": line.failed,
        "open": line.open,
        "tokens_in": line.tokens_in,
        "tokens_cached": line.tokens_cached,
        "tokens_out": line.tokens_out,
        "replica_s": _decimal(line.replica_ns),
        "cost_usd": _decimal(line.cost_nano_usd),
        "tenant_usd": _decimal(line.tenant_nano_usd),
        "operator_usd": _decimal(line.operator_nano_usd),
        "rented_usd": None if line.rented_nano_usd is None else _decimal(line.rented_nano_usd),
        "marginal_usd_per_million_tokens_out": _price(line.marginal),
        "loaded_usd_per_million_tokens_out": _price(line.loaded),
    }


def _decimal(billionths: int) -> str:
    return f"{dollars(billionths):f}"


def _price(price: Decimal | None) -> str | None:
    return None if price is None else f"{price.quantize(PRICE_STEP):f}"


def _time(at_ns: int) -> str | None:
    if at_ns in (Period().since_ns, Period().until_ns):
        return None
    return datetime.fromtimestamp(at_ns // 1_000_000_000, UTC).isoformat()
