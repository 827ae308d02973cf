"""What the second source saved or cost: the same tokens, had the cheapest single supplier made them all.

A supplier's price is what its own output tokens came to, model by model: by the seconds that made them (marginal), or
by every hour that was rented (loaded). Only a supplier that served every model could have been the single one.
"""

from collections.abc import Sequence

import msgspec

from secondsource.core.money import dollars


class SupplierUse(msgspec.Struct):
    """What one supplier made of one model, and what that cost, in nano-dollars."""

    supplier: str
    model: str
    tokens_out: int
    cost_nano_usd: int
    loaded_nano_usd: int


class AloneLine(msgspec.Struct, frozen=True, kw_only=True):
    """Everything made by one supplier, at its own prices; null where it has made nothing of some model."""

    supplier: str
    marginal_usd: str | None
    loaded_usd: str | None


class Alone(msgspec.Struct, frozen=True, kw_only=True):
    """What was paid beside what the cheapest single supplier would have cost; saved is negative where it cost."""

    suppliers: list[AloneLine]
    paid_marginal_usd: str
    paid_loaded_usd: str
    cheapest_marginal: str | None
    saved_marginal_usd: str | None
    cheapest_loaded: str | None
    saved_loaded_usd: str | None


def cheapest_alone(uses: Sequence[SupplierUse]) -> Alone | None:
    """Return the comparison, or None where nothing was made."""
    tokens: dict[str, int] = {}
    for use in uses:
        tokens[use.model] = tokens.get(use.model, 0) + use.tokens_out
    tokens = {model: count for model, count in tokens.items() if count}
    suppliers = sorted({use.supplier for use in uses})
    if not tokens:
        return None
    marginal = {name: _alone(uses, name, tokens, loaded=False) for name in suppliers}
    loaded = {name: _alone(uses, name, tokens, loaded=True) for name in suppliers}
    paid, paid_loaded = sum(use.cost_nano_usd for use in uses), sum(use.loaded_nano_usd for use in uses)
    cheapest, cheapest_loaded = _least(marginal), _least(loaded)
    return Alone(
        suppliers=[
            AloneLine(supplier=name, marginal_usd=_usd(marginal[name]), loaded_usd=_usd(loaded[name]))
            for name in suppliers
        ],
        paid_marginal_usd=f"{dollars(paid):f}",
        paid_loaded_usd=f"{dollars(paid_loaded):f}",
        cheapest_marginal=cheapest,
        saved_marginal_usd=_saved(marginal, cheapest, paid),
        cheapest_loaded=cheapest_loaded,
        saved_loaded_usd=_saved(loaded, cheapest_loaded, paid_loaded),
    )


def _alone(uses: Sequence[SupplierUse], supplier: str, tokens: dict[str, int], *, loaded: bool) -> int | None:
    own = {use.model: use for use in uses if use.supplier == supplier and use.tokens_out}
    if own.keys() != tokens.keys():
        return None
    return sum(
        (use.loaded_nano_usd if loaded else use.cost_nano_usd) * tokens[model] // use.tokens_out
        for model, use in own.items()
    )


def _least(amounts: dict[str, int | None]) -> str | None:
    known = {name: amount for name, amount in amounts.items() if amount is not None}
    return min(known, key=lambda name: known[name]) if known else None


def _saved(amounts: dict[str, int | None], cheapest: str | None, paid: int) -> str | None:
    amount = None if cheapest is None else amounts[cheapest]
    return None if amount is None else f"{dollars(amount - paid):f}"


def _usd(amount: int | None) -> str | None:
    return None if amount is None else f"{dollars(amount):f}"
