"""Months, and demand by month: growth that compounds, and surges on top of it."""

import calendar
import re
from collections.abc import Sequence

import msgspec

from secondsource.core.errors import InputError

_MONTH = re.compile(r"(\d{4})-(0[1-9]|1[0-2])")


class Surge(msgspec.Struct, frozen=True, kw_only=True):
    """Demand multiplied by `factor` from the month `first` on for `months` months (whole numbers from 0)."""

    first: int
    months: int
    factor: float


def month_names(start: str, count: int) -> tuple[str, ...]:
    """Return `count` months from `start` on, each written `YYYY-MM`.

    Raises InputError when `start` is not so written.
    """
    found = _MONTH.fullmatch(start)
    if found is None:
        raise InputError(f"expected a month written YYYY-MM, such as 2027-01, not {start!r}")
    first = int(found[1]) * 12 + int(found[2]) - 1
    return tuple(f"{(first + i) // 12:04d}-{(first + i) % 12 + 1:02d}" for i in range(count))


def month_hours(month: str) -> int:
    """Return the hours in the month `YYYY-MM`: 672 to 744."""
    year, number = month.split("-")
    return 24 * calendar.monthrange(int(year), int(number))[1]


def forecast(first: float, months: int, growth_per_year: float, surges: Sequence[Surge] = ()) -> tuple[float, ...]:
    """Return demand by month: `first * (1 + growth_per_year) ** (m / 12)`, times the surges that reach m.

    `first` is the rate in the first month (requests/s), `growth_per_year` a fraction (1.0 doubles it).
    Raises InputError for a negative rate or a growth of -100% or less.
    """
    if first < 0:
        raise InputError(f"demand cannot be negative: {first:g} requests/s")
    if growth_per_year <= -1:
        raise InputError(f"growth_per_year = {growth_per_year:g} would leave no demand; expected above -1")
    values = [first * (1 + growth_per_year) ** (month / 12) for month in range(months)]
    for surge in surges:
        for month in range(max(0, surge.first), min(months, surge.first + surge.months)):
            values[month] *= surge.factor
    return tuple(values)
