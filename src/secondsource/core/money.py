"""Money: integer nano-dollars inside, decimal dollars outside, never a float sum."""

from decimal import ROUND_HALF_EVEN, Decimal

NANO_USD = 1_000_000_000


def nano_usd(dollars: Decimal | str | int) -> int:
    """Return dollars as integer nano-dollars, rounding half to even below one nano-dollar."""
    scaled = Decimal(dollars) * NANO_USD
    return int(scaled.to_integral_value(rounding=ROUND_HALF_EVEN))


def dollars(amount_nano_usd: int) -> Decimal:
    """Return integer nano-dollars as exact decimal dollars."""
    return Decimal(amount_nano_usd).scaleb(-9)


def format_usd(amount_nano_usd: int, places: int = 6) -> str:
    """Return dollars for people, rounded to `places` decimals: `$1,234.500000`."""
    return f"${dollars(amount_nano_usd):,.{places}f}"
