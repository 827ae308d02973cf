"""What proves a plan and what binds it: the bound, the gap, and the price of each statement that binds.

Prices come from the relaxation's row duals: what the yearly cost changes by, at the margin, when the
statement gives way a little. They are marginal; `planner.explain` says what a statement costs as a whole.
"""

from collections import defaultdict

from secondsource.planner.model import Model
from secondsource.planner.problem import Problem, Record
from secondsource.planner.search import Found

THOUSAND = 1000.0
_SMALL = 1.0  # dollars a year under which a price is the solver's noise


class Price(Record, frozen=True, kw_only=True):
    """What a binding statement costs at the margin: dollars a year saved for each `per` that it gives way."""

    statement: str
    usd_per_year: float
    per: str
    months: tuple[int, ...]  # the months in which it binds


_PER = {
    "share": "point of share",
    "limit": "chip more",
    "availability": "unit more",
    "budget": "dollar a month more",
    "demand": "percent less",
}


def price_statements(problem: Problem, model: Model, found: Found) -> tuple[Price, ...]:
    """Return the price of each statement that binds, the dearest first."""
    prices: dict[tuple[str, str], float] = defaultdict(float)
    months: dict[tuple[str, str], set[int]] = defaultdict(set)
    spend = _spend_by_month(model, found)
    for row, tag in enumerate(model.sparse.tags):
        if tag.month is None or tag.family not in _PER or not found.relaxation.prices:
            continue
        dual = found.relaxation.prices[row]
        change = {
            "share": -dual * 0.01 * spend[tag.month],
            "demand": dual * 0.01 * model.sparse.row_lower[row],
        }.get(tag.family, -dual)
        if tag.family == "budget":
            change /= THOUSAND
        if change * THOUSAND > 1e-3:
            for statement in tag.statements:
                prices[statement, tag.family] += change
                months[statement, tag.family].add(tag.month)
    years = len(problem.months) / 12
    found_prices = [
        Price(
            statement=statement,
            usd_per_year=total * THOUSAND / years,
            per=_PER[family],
            months=tuple(sorted(months[statement, family])),
        )
        for (statement, family), total in prices.items()
    ]
    dear = [price for price in found_prices if price.usd_per_year >= _SMALL or price.per.startswith("dollar")]
    return tuple(sorted(dear, key=lambda price: -price.usd_per_year))


def _spend_by_month(model: Model, found: Found) -> dict[int, float]:
    totals: dict[int, float] = defaultdict(float)
    for (_, month), column in model.variables.spend.items():
        totals[month] += found.relaxation.point[column]
    return totals
