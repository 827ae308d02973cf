"""Plan for many futures at once, and try plans on futures that they were not made for.

The starts are fixed before the future is known; in each future traffic is routed anew and what cannot be
served is lost at the shortfall price. The SPEC's own statements still hold for its own demand.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from secondsource.planner.constraints import NANO_PER_THOUSAND_USD
from secondsource.planner.futures import Future, months_in_service
from secondsource.planner.model import Model, build_model
from secondsource.planner.plan import Start
from secondsource.planner.problem import Demand, Problem, Record, Rental, owed_months, rent_nano_usd
from secondsource.planner.solve import Effort, solve_linear
from secondsource.planner.sparse import INFINITY, Sparse, Tag
from secondsource.planner.variables import group_pools

CVAR_TAIL = 0.2  # the worst fifth of futures


class Trial(Record, frozen=True, kw_only=True):
    """How a plan fares over futures it was not made for; costs in dollars over the horizon."""

    plan: str
    mean_usd: float
    worst_fifth_usd: float  # the mean over the dearest fifth
    mean_missed: float  # the share of requests not served within their SLO
    worst_missed: float


class Outlook(Record, frozen=True, kw_only=True):
    """The plan, the deterministic plan and perfect foresight, side by side on the same futures."""

    futures: int
    seed: int
    trials: tuple[Trial, ...]


@dataclass(frozen=True, slots=True)
class Stakes:
    """What planning for futures needs besides the problem."""

    futures: tuple[Future, ...]
    shortfall_nano_usd: tuple[int, ...]  # by demand: lost by each request not served
    risk: float = 0.0


def build_for_futures(problem: Problem, stakes: Stakes) -> Model:
    """Return the model whose cost is `mean_w C[w] + risk * CVaR(C)` over the futures `w`.

    `C[w]` is rent, the counted part of what is owed, and shortfall in future `w`; CVaR at tail `t` is
    `min_e e + mean_w max(0, C[w] - e) / t` (Rockafellar and Uryasev, 2000).
    """
    model = build_model(problem)
    sparse = model.sparse
    owed = {column: cost for column, cost in enumerate(sparse.cost) if cost}
    for column in (*model.variables.spend.values(), *model.variables.short.values()):
        owed.pop(column, None)  # rent and shortfall are counted in each future
    for column in range(len(sparse.cost)):
        sparse.cost[column] = 0.0
    chance = 1.0 / len(stakes.futures)
    level = sparse.column(lower=-INFINITY)
    sparse.cost[level] = stakes.risk
    for number, future in enumerate(stakes.futures):
        cost = sparse.column(lower=-INFINITY)
        sparse.cost[cost] = chance
        terms: dict[int, float] = defaultdict(float)
        _add_rent(problem, model, future, terms)
        for column, amount in owed.items():
            terms[column] += amount
        _add_future(problem, model, stakes, future, terms)
        tag = Tag("future", future.name)
        held = _held_rent(problem)
        sparse.row(tag, [(cost, 1.0), *((c, -v) for c, v in terms.items())], held, INFINITY)
        if stakes.risk > 0:
            excess = sparse.column()
            sparse.cost[excess] = stakes.risk * chance / CVAR_TAIL
            sparse.row(Tag("tail", str(number)), [(excess, 1.0), (cost, -1.0), (level, 1.0)], 0.0, INFINITY)
        else:
            sparse.column_upper[level] = sparse.column_lower[level] = 0.0
    return model


def _held_rent(problem: Problem) -> float:
    return sum(
        rental.held_in(month) * rent_nano_usd(problem, rental, month) / NANO_PER_THOUSAND_USD
        for rental in problem.rentals
        for month in range(len(problem.months))
    )


def _rent_in(problem: Problem, rental: Rental, month: int, future: Future) -> float:
    factor = future.price[month] if rental.term_months <= 1 else 1.0
    return factor * rent_nano_usd(problem, rental, month) / NANO_PER_THOUSAND_USD


def _add_rent(problem: Problem, model: Model, future: Future, terms: dict[int, float]) -> None:
    months = len(problem.months)
    for (r, month), column in model.variables.start.items():
        rental = problem.rentals[r]
        if future.slip(rental) or rental.term_months <= 1:
            for at in months_in_service(rental, month, future.slip(rental), months):
                terms[column] += _rent_in(problem, rental, at, future)
    for (r, month), column in model.variables.active.items():
        rental = problem.rentals[r]
        if not future.slip(rental) and rental.term_months > 1:
            terms[column] += _rent_in(problem, rental, month, future)


def _add_future(problem: Problem, model: Model, stakes: Stakes, future: Future, terms: dict[int, float]) -> None:
    """Add a future's routes, its capacity and its shortfall, whose price joins the future's cost."""
    units = _pool_units(problem, model, future)
    busy: dict[tuple[int, int], list[int]] = defaultdict(list)
    for d, demand in enumerate(problem.demands):
        for month in range(len(problem.months)):
            peak = demand.peak[month] * future.demand[demand.model][month]
            if peak <= 0:
                continue
            rates = [group.rates[d] * future.rates[group.chip] for group in model.variables.groups]
            fastest = max(rates) or 1.0
            short = model.sparse.column(upper=1.0)
            terms[short] += _lost(problem, demand, month, peak, stakes.shortfall_nano_usd[d])
            row = [(short, peak / fastest)]
            for g, rate in enumerate(rates):
                if rate > 0:
                    column = model.sparse.column()
                    busy[g, month].append(column)
                    row.append((column, rate / fastest))
            tag = Tag("future demand", demand.key, month, future.name)
            model.sparse.row(tag, row, peak / fastest, INFINITY)
    for (g, month), columns in busy.items():
        group = model.variables.groups[g]
        held = [(column, -1.0) for pool in group.pools for column in units[pool, month]]
        row = [(column, 1.0) for column in columns] + held
        model.sparse.row(Tag("future capacity", group.key, month, future.name), row, -INFINITY, 0.0)


def _lost(problem: Problem, demand: Demand, month: int, peak: float, price: int) -> float:
    requests = peak * demand.mean_to_peak * problem.hours[month] * 3600
    return requests * price / NANO_PER_THOUSAND_USD


def _pool_units(problem: Problem, model: Model, future: Future) -> dict[tuple[str, int], list[int]]:
    """Return the columns that add up to a pool's units in a future, adding one for each pool that slips."""
    months = len(problem.months)
    late = {rental.pool for rental in problem.rentals if future.slip(rental)}
    units = {(pool, month): [c] for (pool, firm, month), c in model.variables.pool.items() if not firm}
    for pool in sorted(late):
        arrivals: dict[int, dict[int, float]] = defaultdict(dict)
        for (r, start), column in model.variables.start.items():
            rental = problem.rentals[r]
            if rental.pool == pool:
                for month in months_in_service(rental, start, future.slip(rental), months):
                    arrivals[month][column] = -1.0
        for month in range(months):
            column = model.sparse.column()
            held = float(sum(r.held_in(month) for r in problem.rentals if r.pool == pool))
            tag = Tag("future pool", pool, month, future.name)
            model.sparse.row(tag, [(column, 1.0), *arrivals[month].items()], held, held)
            units[pool, month] = [column]
    return units


def try_plan(name: str, problem: Problem, starts: Sequence[Start], stakes: Stakes, say: Callable[[str], None]) -> Trial:
    """Return how fixed starts fare over the stakes' futures: rent as it turns out, and what is not served."""
    outcomes = []
    for future in stakes.futures:
        say(f"trying {name} on future {future.name}")
        outcomes.append(_fare(problem, starts, stakes, future))
    return _trial(name, outcomes)


def _trial(name: str, outcomes: Sequence[tuple[float, float]]) -> Trial:
    costs = sorted((cost for cost, _ in outcomes), reverse=True)
    worst = costs[: max(1, round(len(costs) * CVAR_TAIL))]
    return Trial(
        plan=name,
        mean_usd=round(sum(costs) / len(costs), 2),
        worst_fifth_usd=round(sum(worst) / len(worst), 2),
        mean_missed=sum(missed for _, missed in outcomes) / len(outcomes),
        worst_missed=max(missed for _, missed in outcomes),
    )


def _fare(problem: Problem, starts: Sequence[Start], stakes: Stakes, future: Future) -> tuple[float, float]:
    """Return (cost in dollars, share of requests missed) of fixed starts in one future."""
    months = len(problem.months)
    rentals = {rental.key: rental for rental in problem.rentals}
    rent = _held_rent(problem)
    units: dict[tuple[str, int], int] = defaultdict(int)
    for rental in problem.rentals:
        for month in range(months):
            units[rental.pool, month] += rental.held_in(month)
    for start in starts:
        rental = rentals[start.offer]
        for month in months_in_service(rental, start.month, future.slip(rental), months):
            units[rental.pool, month] += start.units
            rent += start.units * _rent_in(problem, rental, month, future)
        owed = owed_months(problem, rental, start.month) * problem.hours_after_horizon
        counted = start.units * owed * rental.nano_usd_per_unit_hour * problem.owed_after_horizon
        rent += counted / NANO_PER_THOUSAND_USD
    lost, missed, asked = _serve(problem, units, stakes, future)
    return (rent + lost) * 1000, missed / asked if asked else 0.0


def _serve(
    problem: Problem, units: dict[tuple[str, int], int], stakes: Stakes, future: Future
) -> tuple[float, float, float]:
    """Return (loss in thousands of dollars, requests missed, requests asked) with so many units."""
    model = Sparse()
    groups = group_pools(problem)
    busy: dict[tuple[int, int], list[int]] = defaultdict(list)
    shorts: list[tuple[int, float]] = []
    for d, demand in enumerate(problem.demands):
        for month in range(len(problem.months)):
            peak = demand.peak[month] * future.demand[demand.model][month]
            if peak <= 0:
                continue
            short = model.column(upper=1.0)
            model.cost[short] = _lost(problem, demand, month, peak, stakes.shortfall_nano_usd[d])
            shorts.append((short, peak * demand.mean_to_peak * problem.hours[month] * 3600))
            row = [(short, 1.0)]
            for g, group in enumerate(groups):
                if group.rates[d] > 0:
                    column = model.column()
                    busy[g, month].append(column)
                    row.append((column, group.rates[d] * future.rates[group.chip] / peak))
            model.row(Tag("demand", demand.key, month), row, 1.0, INFINITY)
    for (g, month), columns in busy.items():
        capacity = float(sum(units[pool, month] for pool in groups[g].pools))
        model.row(Tag("capacity", groups[g].key, month), [(c, 1.0) for c in columns], -INFINITY, capacity)
    if not shorts:
        return 0.0, 0.0, 0.0
    solution = solve_linear(model, Effort(seconds=60.0))
    missed = sum(solution.point[column] * requests for column, requests in shorts)
    return solution.objective, missed, sum(requests for _, requests in shorts)


def foresee(problem: Problem, stakes: Stakes, say: Callable[[str], None]) -> Trial:
    """Return what perfect foresight would cost: each future planned for as if it alone could come.

    Relaxed to parts of units, so a little under what any plan could reach.
    """
    outcomes = []
    for future in stakes.futures:
        say(f"foreseeing future {future.name}")
        alone = Stakes(futures=(future,), shortfall_nano_usd=stakes.shortfall_nano_usd)
        model = build_for_futures(problem, alone)
        solution = solve_linear(model.sparse, Effort(seconds=60.0))
        outcomes.append((solution.objective * 1000, _missed(problem, model, future, solution.point)))
    return _trial("perfect foresight", outcomes)


def _missed(problem: Problem, model: Model, future: Future, point: Sequence[float]) -> float:
    """Return the share of a future's requests that a point of its model does not serve."""
    demands = {demand.key: demand for demand in problem.demands}
    missed = asked = 0.0
    for row, tag in enumerate(model.sparse.tags):
        if tag.family == "future demand" and tag.month is not None:
            demand = demands[tag.subject]
            peak = demand.peak[tag.month] * future.demand[demand.model][tag.month]
            requests = peak * demand.mean_to_peak * problem.hours[tag.month]
            short = model.sparse.indices[model.sparse.starts[row]]  # the row's first column
            missed += point[short] * requests
            asked += requests
    return missed / asked if asked else 0.0
