"""The model's variables: units started, units in service, traffic routed, traffic not served.

Traffic is routed to groups, not to pools: pools of the same chip and unit size whose rates are equal for
every demand are interchangeable, so one variable stands for all of them. The plan splits it afterwards.
"""

from dataclasses import dataclass, field

from secondsource.planner.problem import Loss, Problem
from secondsource.planner.sparse import Sparse

NORMAL = "normal"


@dataclass(frozen=True, slots=True)
class Group:
    """Pools that serve every demand equally well: requests/s of one unit, by demand."""

    key: str
    chip: str
    pools: tuple[str, ...]
    rates: tuple[float, ...]


@dataclass(slots=True)
class Variables:
    """Where each variable's column is. Keys are indices into the problem's own tuples."""

    groups: tuple[Group, ...]
    start: dict[tuple[int, int], int] = field(default_factory=dict)  # (rental, month): units started
    active: dict[tuple[int, int], int] = field(default_factory=dict)  # (rental, month): started and in term
    ordered: dict[tuple[int, int], int] = field(default_factory=dict)  # (rental, month): 0 or 1
    pool: dict[tuple[str, bool, int], int] = field(default_factory=dict)  # (pool, firm only, month): units
    spend: dict[tuple[str, int], int] = field(default_factory=dict)  # (supplier, month): thousands of dollars
    served: dict[tuple[str, int, int, int], int] = field(
        default_factory=dict
    )  # (case, group, demand, month): the units busy with it
    short: dict[tuple[int, int], int] = field(default_factory=dict)  # (demand, month): share, normal case


def group_pools(problem: Problem) -> tuple[Group, ...]:
    """Return the groups of interchangeable pools that can serve anything."""
    found: dict[tuple[str, int, tuple[float, ...]], list[str]] = {}
    for rental in problem.rentals:
        rates = problem.rates.get(rental.pool, ())
        if any(rates):
            pools = found.setdefault((rental.chip, rental.chips_per_unit, rates), [])
            if rental.pool not in pools:
                pools.append(rental.pool)
    return tuple(
        Group(key=f"{chip} x{chips} [{pools[0]}]", chip=chip, pools=tuple(pools), rates=rates)
        for (chip, chips, rates), pools in found.items()
    )


def add_units(model: Sparse, problem: Problem, variables: Variables) -> None:
    """Add whole units started in each month, and units in service; the latter are whole of themselves."""
    months = len(problem.months)
    for r, rental in enumerate(problem.rentals):
        for month in range(rental.first_month, months):
            start = model.column(integer=True)
            variables.start[r, month] = start
            variables.active[r, month] = start if rental.term_months <= 1 else model.column()
            if rental.min_units > 1:
                variables.ordered[r, month] = model.column(upper=1.0, integer=True)


def add_sums(model: Sparse, problem: Problem, variables: Variables) -> None:
    """Add a pool's units in service, all and firm ones, and a supplier's rent; sums that keep rows short."""
    for month in range(len(problem.months)):
        for rental in problem.rentals:
            for firm in (False, True) if rental.firm else (False,):
                if (rental.pool, firm, month) not in variables.pool:
                    variables.pool[rental.pool, firm, month] = model.column()
            if (rental.supplier, month) not in variables.spend:
                variables.spend[rental.supplier, month] = model.column()


def kept_pools(problem: Problem, loss: Loss | None) -> frozenset[str]:
    """Return the pools that still have units in a case."""
    return frozenset(rental.pool for rental in problem.rentals if not (loss and loss.takes(rental)))


def add_routes(model: Sparse, problem: Problem, variables: Variables, loss: Loss | None) -> None:
    """Add the units of each group busy with each demand, and the share not served, in one case."""
    case = loss.key if loss else NORMAL
    kept = kept_pools(problem, loss)
    for d, demand in enumerate(problem.demands):
        for month in range(len(problem.months)):
            if demand.peak[month] <= 0:
                continue
            for g, group in enumerate(variables.groups):
                if group.rates[d] > 0 and not kept.isdisjoint(group.pools):
                    variables.served[case, g, d, month] = model.column()
            if loss is None and demand.shortfall_nano_usd is not None:
                variables.short[d, month] = model.column()
