"""Dollars in a fleet file, exactly: integer nano-dollars, or a fault at the key."""

from decimal import Inexact, localcontext

from secondsource.core import fleet_values as values
from secondsource.core.money import NANO_USD
from secondsource.core.strict_toml import Table


def read_nano_usd(table: Table, key: str, times: int = 1) -> int | None:
    """Return a key's dollars times `times` in nano-dollars, exactly; what is finer than that is a fault."""
    amount = table.optional(key, values.USD, None)
    if amount is None:
        return None
    with localcontext(prec=60) as context:
        context.traps[Inexact] = True
        try:
            nano_usd = amount * times * NANO_USD
            if nano_usd == nano_usd.to_integral_value():
                return int(nano_usd)
        except Inexact:
            pass  # more digits than any price has: finer than a nano-dollar too
    table.report(key, "finer than one nano-dollar; give at most 9 decimal places")
    return 0
