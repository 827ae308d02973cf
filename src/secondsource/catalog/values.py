"""The rules of the catalogue's single values: names, dates, prices, sizes."""

import re
from datetime import date, datetime
from decimal import Decimal

from secondsource.catalog.records import Confidence
from secondsource.core.rules import Refusal, Rule, describe, number, one_of, text_rule, whole_number

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

NAME = text_rule(
    'a name of 1 to 64 letters, digits, ".", "_" and "-", beginning with a letter or digit',
    '"a-name"',
    lambda text: bool(_NAME.fullmatch(text)),
)
SOURCE = text_rule(
    "where the figure was read: a page, a file at a commit, a publication",
    '"the supplier\'s price list, https://…"',
    lambda text: bool(text.strip()) and text.isprintable(),
)
NOTE = text_rule("a note of printable characters", '"a note"', str.isprintable)
CONFIDENCE = one_of(Confidence)

CHIPS = whole_number(1, 1_000_000, "chips")
TERM_MONTHS = whole_number(0, 120, "months")
TFLOPS = number("1", "1000000", "dense TFLOPS")
HBM_GB = number("1", "10000", "GB")
HBM_TB_S = number("0.01", "1000", "TB/s")
SCALEUP_GB_S = number("1", "100000", "GB/s")
TDP_W = number("1", "100000", "watts")

_CHEAPEST, _DEAREST = Decimal("0.01"), Decimal(60)


def _date(value: object) -> date | Refusal:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    return Refusal(f"expected a date written 2026-05-20 without quotes, got {describe(value)}")


def _usd_per_chip_hour(value: object) -> Decimal | Refusal:
    if not isinstance(value, int | Decimal) or isinstance(value, bool) or not Decimal(value).is_finite():
        return Refusal(f"expected dollars per chip and hour, got {describe(value)}")
    price = Decimal(value)
    if _CHEAPEST <= price <= _DEAREST:
        return price
    hint = "is it per instance, per day or per month? divide" if price > _DEAREST else "is it per second or in cents?"
    return Refusal(f"expected dollars per chip and hour from {_CHEAPEST} to {_DEAREST}, got {price}; {hint}")


def _flag(value: object) -> bool | Refusal:
    return value if isinstance(value, bool) else Refusal(f"expected true or false, got {describe(value)}")


def _names(value: object) -> tuple[str, ...] | Refusal:
    if isinstance(value, list) and value and all(isinstance(each, str) and _NAME.fullmatch(each) for each in value):
        return tuple(value)
    return Refusal(f"expected an array of names, got {describe(value)}")


NAMES: Rule[tuple[str, ...]] = Rule('["a-name"]', (), _names)
AS_OF = Rule("2026-05-20", date(1970, 1, 1), _date)
USD_PER_CHIP_HOUR = Rule("2.95", Decimal(1), _usd_per_chip_hour)
FLAG = Rule[bool]("true", False, _flag)
