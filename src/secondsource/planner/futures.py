"""Draw futures: how demand, price, delivery and speed may differ from the plan, from a seed."""

import random
from collections.abc import Sequence

from secondsource.planner.problem import Problem, Record, Rental
from secondsource.planner.spec import DeliverySpec, FuturesSpec


class Future(Record, frozen=True, kw_only=True):
    """One way that things may turn out; factors are on what the problem says."""

    name: str
    demand: dict[str, tuple[float, ...]]  # by model, then month
    price: tuple[float, ...]  # of rent by the month, by month; a term's price is fixed when it is signed
    slips: dict[str, int]  # by rental: months by which its first delivery is late
    rates: dict[str, float]  # by chip

    def slip(self, rental: Rental) -> int:
        """Return by how many months a rental's first delivery is late."""
        return self.slips.get(rental.key, 0)


def draw_futures(
    problem: Problem, rules: FuturesSpec, deliveries: Sequence[DeliverySpec], count: int, seed: int
) -> tuple[Future, ...]:
    """Return `count` futures, equally likely; the same seed always gives the same ones.

    Demand and price drift evenly from the plan's to a last value drawn uniformly within their ranges; a surge
    multiplies all demand in one month; a slip is one of the delivery's own; each chip's speed is drawn
    uniformly between its promise and `rules.rates` under it.
    """
    source = random.Random(seed)  # noqa: S311 -- a sample, not a secret
    months = len(problem.months)
    models = sorted({demand.model for demand in problem.demands})
    chips = sorted({rental.chip for rental in problem.rentals})
    futures = []
    for number in range(1, count + 1):
        surge = [1.0] * months
        if source.random() < rules.surge_chance:
            surge[source.randrange(months)] = rules.surge_factor
        demand = {}
        for model in models:
            drift = _drift(source.uniform(-rules.demand, rules.demand), months)
            demand[model] = tuple(a * b for a, b in zip(drift, surge, strict=True))
        price = _drift(source.uniform(-rules.price, rules.price), months)
        slips = {}
        for delivery in deliveries:
            late = source.choice(delivery.slips_months)
            for rental in problem.rentals:
                if rental.chip == delivery.chip and delivery.supplier in (None, rental.supplier):
                    slips[rental.key] = late
        rates = {chip: 1.0 - source.uniform(0.0, rules.rates) for chip in chips}
        futures.append(Future(name=f"{seed}-{number}", demand=demand, price=price, slips=slips, rates=rates))
    return tuple(futures)


def _drift(change: float, months: int) -> tuple[float, ...]:
    return tuple(1.0 + change * (month + 1) / months for month in range(months))


def months_in_service(rental: Rental, start: int, slip: int, months: int) -> range:
    """Return the months of the horizon in which a unit started in month `start` is in service and paid for.

    Deliveries before the slipped first month wait for it; a month's rental that cannot be delivered is void.
    """
    first = rental.first_month + slip
    if rental.term_months <= 1:
        return range(start, min(months, start + 1)) if start >= first else range(0)
    delivered = max(start, first)
    return range(min(months, delivered), min(months, delivered + rental.term_months))
