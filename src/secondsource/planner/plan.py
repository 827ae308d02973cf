"""The plan as a record that a person can open: what to start when, where traffic goes, what it costs.

Money is in nano-dollars, integer and exact; rates are requests/s (images/s) at the busiest time of a month.
"""

from collections import defaultdict
from fractions import Fraction

from secondsource.planner.constraints import NANO_PER_THOUSAND_USD
from secondsource.planner.model import Model
from secondsource.planner.problem import Problem, Record, Rental, owed_months, rent_nano_usd
from secondsource.planner.search import Found
from secondsource.planner.variables import NORMAL, kept_pools

_TINY = 1e-9


class Start(Record, frozen=True, kw_only=True):
    """Units of one offer that begin in one month (counted from 0)."""

    offer: str
    month: int
    units: int


class Route(Record, frozen=True, kw_only=True):
    """Traffic of one demand that goes to one pool, in one case and month."""

    case: str  # "normal", or what is lost: "supplier azure"
    demand: str
    month: int
    pool: str
    requests_per_s: float


class Unserved(Record, frozen=True, kw_only=True):
    """The share (0 to 1) of a demand that the plan does not serve, because serving it would cost more."""

    demand: str
    month: int
    share: float


class Costs(Record, frozen=True, kw_only=True):
    """What the plan costs, in nano-dollars."""

    rent: int  # within the horizon
    by_month: tuple[int, ...]
    by_supplier: dict[str, int]
    by_chip: dict[str, int]
    owed_after_horizon: int  # rent still owed after the last month
    counted_after_horizon: int  # the part of it the SPEC counts as cost
    shortfall: int  # what unserved requests lose


class Plan(Record, frozen=True, kw_only=True):
    """A whole plan with the proof of how good it is."""

    months: tuple[str, ...]
    starts: tuple[Start, ...]
    routes: tuple[Route, ...]
    unserved: tuple[Unserved, ...]
    costs: Costs
    objective_nano_usd: int  # what was minimised: `total`, or the cost over futures with its risk
    bound_nano_usd: int  # no plan that keeps the SPEC has a lower objective
    gap: float

    @property
    def total(self) -> int:
        """Rent, the counted part of what is owed afterwards, and shortfall, in nano-dollars."""
        return self.costs.rent + self.costs.counted_after_horizon + self.costs.shortfall


def units_in_service(problem: Problem, starts: tuple[Start, ...]) -> dict[str, list[int]]:
    """Return each offer's units in service by month, held ones included."""
    months = len(problem.months)
    rentals = {rental.key: rental for rental in problem.rentals}
    service = {rental.key: [rental.held_in(month) for month in range(months)] for rental in problem.rentals}
    for start in starts:
        term = max(1, rentals[start.offer].term_months)
        for month in range(start.month, min(months, start.month + term)):
            service[start.offer][month] += start.units
    return service


def read_plan(problem: Problem, model: Model, found: Found, over_futures: bool = False) -> Plan:
    """Return the plan that a point of the model stands for, its costs counted anew in whole nano-dollars.

    `over_futures` says that the model minimised the cost over futures and not the plan's own.
    """
    starts = tuple(
        Start(offer=problem.rentals[r].key, month=month, units=round(found.point[column]))
        for (r, month), column in sorted(model.variables.start.items(), key=lambda item: item[0][::-1])
        if round(found.point[column]) > 0
    )
    unserved = tuple(
        Unserved(demand=problem.demands[d].key, month=month, share=min(1.0, found.point[column]))
        for (d, month), column in model.variables.short.items()
        if found.point[column] > 1e-7
    )
    costs = count_costs(problem, starts, unserved)
    total = costs.rent + costs.counted_after_horizon + costs.shortfall
    objective = round(found.objective * NANO_PER_THOUSAND_USD) if over_futures else total
    bound = min(objective, round(found.bound * NANO_PER_THOUSAND_USD))
    return Plan(
        months=problem.months,
        starts=starts,
        routes=_routes(problem, model, found, starts),
        unserved=unserved,
        costs=costs,
        objective_nano_usd=objective,
        bound_nano_usd=bound,
        gap=(objective - bound) / objective if objective else 0.0,
    )


def _routes(problem: Problem, model: Model, found: Found, starts: tuple[Start, ...]) -> tuple[Route, ...]:
    """Split each group's traffic over its pools, in proportion to the units each has left in the case."""
    service = units_in_service(problem, starts)
    routes: list[Route] = []
    for loss in (None, *problem.losses):
        case = loss.key if loss else NORMAL
        kept = kept_pools(problem, loss)
        units: dict[tuple[str, int], int] = defaultdict(int)
        for rental in problem.rentals:
            if not (loss and loss.takes(rental)):
                for month, count in enumerate(service[rental.key]):
                    units[rental.pool, month] += count
        for (at, g, d, month), column in model.variables.served.items():
            busy = found.point[column]
            if at != case or busy <= _TINY:
                continue
            group = model.variables.groups[g]
            pools = [pool for pool in group.pools if pool in kept and units[pool, month] > 0]
            total = sum(units[pool, month] for pool in pools)
            routes.extend(
                Route(
                    case=case,
                    demand=problem.demands[d].key,
                    month=month,
                    pool=pool,
                    requests_per_s=busy * group.rates[d] * units[pool, month] / total,
                )
                for pool in pools
            )
    return tuple(routes)


def count_costs(problem: Problem, starts: tuple[Start, ...], unserved: tuple[Unserved, ...]) -> Costs:
    """Return the exact cost of starting these units and leaving this much unserved."""
    service = units_in_service(problem, starts)
    by_month = [0] * len(problem.months)
    by_supplier: dict[str, int] = defaultdict(int)
    by_chip: dict[str, int] = defaultdict(int)
    rentals: dict[str, Rental] = {}
    for rental in problem.rentals:
        rentals[rental.key] = rental
        for month, units in enumerate(service[rental.key]):
            rent = units * rent_nano_usd(problem, rental, month)
            if rent:
                by_month[month] += rent
                by_supplier[rental.supplier] += rent
                by_chip[rental.chip] += rent
    owed = sum(
        start.units
        * owed_months(problem, rentals[start.offer], start.month)
        * problem.hours_after_horizon
        * rentals[start.offer].nano_usd_per_unit_hour
        for start in starts
    )
    return Costs(
        rent=sum(by_month),
        by_month=tuple(by_month),
        by_supplier=dict(sorted(by_supplier.items())),
        by_chip=dict(sorted(by_chip.items())),
        owed_after_horizon=owed,
        counted_after_horizon=round(owed * Fraction(problem.owed_after_horizon)),
        shortfall=_shortfall(problem, unserved),
    )


def _shortfall(problem: Problem, unserved: tuple[Unserved, ...]) -> int:
    demands = {demand.key: demand for demand in problem.demands}
    total = 0.0
    for item in unserved:
        demand = demands[item.demand]
        requests = demand.peak[item.month] * demand.mean_to_peak * problem.hours[item.month] * 3600
        total += item.share * requests * (demand.shortfall_nano_usd or 0)
    return round(total)
