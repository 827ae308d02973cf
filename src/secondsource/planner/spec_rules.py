"""The rules of a SPEC's single values, with hints where units are easily mixed up."""

import re
from decimal import Decimal

from secondsource.catalog.values import AS_OF, FLAG, NAME, NAMES, USD_PER_CHIP_HOUR
from secondsource.core.rules import Refusal, Rule, describe, number, one_of, text_rule, whole_number
from secondsource.workload.trace import Format

__all__ = ["AS_OF", "FLAG", "NAME", "NAMES", "USD_PER_CHIP_HOUR"]  # shared with the catalogue

MONTH = text_rule(
    "a month written YYYY-MM",
    '"2027-01"',
    lambda text: re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", text) is not None,
)
MONTHS = whole_number(1, 120, "months")
TEXT = text_rule("a text", '"a text"', lambda text: bool(text.strip()) and text.isprintable())
SHARE = number("0", "1")
GROWTH = number("-0.99", "100", "parts a year (1.0 doubles demand in a year)")
TOKENS = number("0", "10000000", "tokens")
STEPS = whole_number(1, 10_000, "steps")
SECONDS = number("0.001", "86400", "seconds")
UNITS = whole_number(0, 10_000_000, "units")
CHIPS = whole_number(1, 1_000_000, "chips")
COUNT = whole_number(1, 1000)
SEED = whole_number(0, 2**31)
FACTOR = number("0", "1000")
RATE = number("0", "1000000000", "requests/s")
USD = number("0", "1000000000000", "dollars")
FORMAT = one_of(Format)
CAUTION = number("0", "10", "median errors of a profile to take off its rate (0 trusts it, 1 is the default)")
ERROR = number("0", "0.95", "parts (0.25 is a quarter)")


def _term(value: object) -> int | Refusal:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 120:
        return value
    hint = ""
    if isinstance(value, int) and value > 120:
        hint = f"; is it hours? {value} hours are {round(value / 730)} months"
    return Refusal(f"expected a term of 0 (by the month) to 120 months, got {describe(value)}{hint}")


TERM_MONTHS = Rule[int]("12", 0, _term)


def series(unit: str, example: str) -> Rule[tuple[Decimal, ...]]:
    """Return the rule of one number for all months, or an array with one for each; none negative."""

    def accept(value: object) -> tuple[Decimal, ...] | Refusal:
        given: list[object] = value if isinstance(value, list) else [value]
        values: list[Decimal] = []
        for place, item in enumerate(given, start=1):
            if isinstance(item, bool) or not isinstance(item, int | Decimal) or not Decimal(item).is_finite():
                return Refusal(f"expected {unit}, one number or an array by month, got {describe(item)}")
            if item < 0:
                where = f" in month {place}" if len(given) > 1 else ""
                return Refusal(f"expected {unit} of 0 or more, got {item}{where}; it cannot be negative")
            values.append(Decimal(item))
        return tuple(values) or Refusal(f"expected {unit}, got an empty array")

    return Rule(example, (Decimal(0),), accept)


REQUESTS_PER_S = series("requests/s", "100.0")
CHIPS_BY_MONTH = series("chips", "1000")
USD_BY_MONTH = series("dollars", "1000000")


def _whole_numbers(value: object) -> tuple[int, ...] | Refusal:
    if isinstance(value, list) and value:
        numbers = [item for item in value if isinstance(item, int) and not isinstance(item, bool) and item >= 0]
        if len(numbers) == len(value):
            return tuple(numbers)
    return Refusal(f"expected an array of whole numbers of months, got {describe(value)}")


MONTH_COUNTS = Rule[tuple[int, ...]]("[0, 3, 6]", (), _whole_numbers)


def _all_or_names(value: object) -> bool | tuple[str, ...] | Refusal:
    if isinstance(value, bool):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    return Refusal(f"expected true (all of them), false (none) or an array of names, got {describe(value)}")


ALL_OR_NAMES = Rule[bool | tuple[str, ...]]("true", False, _all_or_names)


def _chips_by_chip(value: object) -> dict[str, int] | Refusal:
    if isinstance(value, dict) and all(isinstance(chips, int) and chips >= 1 for chips in value.values()):
        return dict(value)
    return Refusal(f"expected a number of chips for each chip, got {describe(value)}")


def _texts(value: object) -> tuple[str, ...] | Refusal:
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return tuple(value)
    return Refusal(f"expected an array of texts, got {describe(value)}")


CHIPS_BY_CHIP = Rule[dict[str, int]]("{ h100-sxm = 8 }", {}, _chips_by_chip)
TEXTS = Rule[tuple[str, ...]]('["azure/eastus/h100-sxm/8/on-demand"]', (), _texts)


def _table(value: object) -> bool | Refusal:
    return True if isinstance(value, dict) else Refusal(f"expected a table, got {describe(value)}")


TABLE = Rule[bool]("{ }", False, _table)
