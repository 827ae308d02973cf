"""`secondsource bill`: who spent what, on whose chips."""

import argparse
import json
import re
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.console import Console

from secondsource.cli import bill_text
from secondsource.core.errors import InputError
from secondsource.core.fleet import Fleet
from secondsource.gateway.books.audit import audit, read_meter
from secondsource.gateway.books.billing import Dimension, Period, make_bill
from secondsource.gateway.books.ledger_reading import Reading, read_books

AGO = re.compile(r"(\d{1,6})([smhdw])")
AGO_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
SECOND_NS = 1_000_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def add(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb."""
    parser = subparsers.add_parser(
        "bill",
        help="who spent what, on whose chips",
        description="Sum the ledger, exactly, whether the gateway runs or not. Failed attempts are the operator's "
        "cost. The marginal price of a token counts the seconds that made it, the loaded price every rented hour.",
    )
    default = Fleet(suppliers=(), pools=()).state_dir
    parser.add_argument("--state-dir", type=Path, default=Path(default), metavar="DIR", help="default: %(default)s")
    parser.add_argument(
        "--by", type=Dimension, choices=list(Dimension), default=Dimension.SUPPLIER, help="default: %(default)s"
    )
    moment = "a time (2026-11-22, 2026-11-22T10:00Z; UTC unless it says otherwise) or how long ago (90m, 24h, 7d)"
    parser.add_argument("--since", metavar="TIME", help=f"attempts reserved from then on: {moment}")
    parser.add_argument("--until", metavar="TIME", help="attempts reserved before then")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print the bill, or the audit, as JSON")
    form.add_argument("--csv", action="store_true", help="print the bill's lines as CSV")
    parser.add_argument("--audit", action="store_true", help="make every sum again from the rows and check the rows")
    parser.add_argument(
        "--meter", type=Path, metavar="FILE", help="with --audit: compare with the replicas' own meter (JSON lines)"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print a bill, or audit the books; `InputError` when there is no ledger or a flag cannot be meant."""
    if arguments.audit and (arguments.csv or arguments.since or arguments.until):
        raise InputError("--audit looks at the whole ledger: leave out --csv, --since and --until")
    if arguments.meter is not None and not arguments.audit:
        raise InputError("--meter is compared by the audit: give --audit as well")
    now_ns = time.time_ns()
    period = Period(
        *(
            default if text is None else _moment(flag, text, now_ns)
            for flag, text, default in (
                ("--since", arguments.since, Period().since_ns),
                ("--until", arguments.until, Period().until_ns),
            )
        )
    )
    if period.since_ns >= period.until_ns:
        raise InputError(f"--since {arguments.since} is not before --until {arguments.until}")
    with read_books(arguments.state_dir) as reading:
        if arguments.audit:
            return _audit(arguments, reading)
        with Console(stderr=True).status("Summing the ledger …"):
            bill = make_bill(reading, arguments.by, period)
    if arguments.json:
        print(json.dumps(bill_text.as_json(bill, period, reading.path)))
    elif arguments.csv:
        bill_text.write_csv(bill, sys.stdout)
    else:
        bill_text.print_table(bill, Console(), reading.path)
    return 0


def _audit(arguments: argparse.Namespace, reading: Reading) -> int:
    meter = read_meter(arguments.meter) if arguments.meter is not None else []
    with Console(stderr=True).status("Auditing the ledger …"):
        audited = audit(reading, meter)
    if arguments.json:
        print(
            json.dumps(
                {
                    "fits": audited.misfit is None,
                    "misfit": audited.misfit,
                    "attempts": audited.attempts,
                    "metered": audited.metered,
                    "pending_records": reading.pending_records,
                }
            )
        )
    elif audited.misfit is None:
        against = f" and {audited.metered} lines of the meter" if audited.metered else ""
        print(f"The books balance: {audited.attempts} attempts{against}, every sum made again from its rows.")
    else:
        print(f"The books do not balance: {audited.misfit}")
    return 0 if audited.misfit is None else 1


def _moment(flag: str, text: str, now_ns: int) -> int:
    """Return nanoseconds since 1970 for a time, or for how long ago."""
    if ago := AGO.fullmatch(text):
        return now_ns - int(ago[1]) * AGO_SECONDS[ago[2]] * SECOND_NS
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(
            f"{flag} {text}: expected a time such as 2026-11-22 or 2026-11-22T10:00Z, or how long ago, such as 24h"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - EPOCH) // timedelta(microseconds=1) * 1000
