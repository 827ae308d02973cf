"""Rules for single values of a TOML text: what is accepted, and how the expectation is worded."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal
from enum import StrEnum
from typing import Generic, TypeVar

from secondsource.core.toml_lines import printable

Value = TypeVar("Value")
Choice = TypeVar("Choice", bound=StrEnum)

_LONGEST_SHOWN = 60


@dataclass(frozen=True)
class Refusal:
    """Why a value was not accepted: what was expected, and what came."""

    message: str


@dataclass(frozen=True)
class Rule(Generic[Value]):
    """What a key's value must be.

    `accept` turns what `tomllib` read into the value or a refusal; `example` is TOML for the right-hand side of
    the key; `stand_in` takes a refused value's place so that the rest of the text can still be read.
    """

    example: str
    stand_in: Value
    accept: Callable[[object], Value | Refusal]


def text_rule(
    expected: str, example: str, holds: Callable[[str], bool], *, shown: bool = True, hint: str = ""
) -> Rule[str]:
    """Return the rule of a text; `shown` is false where a wrong value may be a secret pasted in error."""

    def accept(value: object) -> str | Refusal:
        if isinstance(value, str) and holds(value):
            return value
        return Refusal(f"expected {expected}, got {describe(value, shown=shown)}{hint}")

    return Rule(example, "", accept)


def whole_number(lowest: int, highest: int, unit: str = "") -> Rule[int]:
    """Return the rule of an integer in `lowest..highest`, both included."""
    expected = f"a whole number{unit and f' of {unit}'} from {lowest} to {highest}"

    def accept(value: object) -> int | Refusal:
        if isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest:
            return value
        return Refusal(f"expected {expected}, got {describe(value)}")

    return Rule(str(max(lowest, 1)), lowest, accept)


def number(lowest: str, highest: str, unit: str = "") -> Rule[Decimal]:
    """Return the rule of a finite number in `lowest..highest`, both included and given as decimal text."""
    bottom, top = Decimal(lowest), Decimal(highest)
    expected = f"a number{unit and f' of {unit}'} from {lowest} to {highest}"

    def accept(value: object) -> Decimal | Refusal:
        if isinstance(value, int | Decimal) and not isinstance(value, bool):
            given = Decimal(value)
            if given.is_finite() and bottom <= given <= top:
                return given
        return Refusal(f"expected {expected}, got {describe(value)}")

    return Rule(str(max(bottom, Decimal(1))), bottom, accept)


def true_or_false() -> Rule[bool]:
    """Return the rule of `true` or `false`."""

    def accept(value: object) -> bool | Refusal:
        return value if isinstance(value, bool) else Refusal(f"expected true or false, got {describe(value)}")

    return Rule("true", False, accept)


def one_of(choices: type[Choice]) -> Rule[Choice]:
    """Return the rule of a text that names one of an enumeration's values."""
    first = next(iter(choices))
    expected = " or ".join(f'"{choice.value}"' for choice in choices)

    def accept(value: object) -> Choice | Refusal:
        for choice in choices:
            if choice.value == value:
                return choice
        return Refusal(f"expected {expected}, got {describe(value)}")

    return Rule(f'"{first.value}"', first, accept)


def describe(value: object, *, shown: bool = True) -> str:
    """Return a value that `tomllib` read as a person would name it, short, and hidden if not `shown`."""
    match value:
        case bool():
            return str(value).lower()
        case int() if value.bit_length() > 128:
            return "a huge whole number"
        case int() | Decimal():
            return _cut(str(value))
        case str() if not shown:
            return "another text (not shown: it may be a secret)"
        case str():
            return f'the text "{_cut(printable(value))}"'
        case dict():
            return "a table"
        case list():
            return "an array"
        case date() | time():
            return "a date or time"
        case _:
            return f"a {type(value).__name__}"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"
