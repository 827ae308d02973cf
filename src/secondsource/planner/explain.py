"""Say why: what each statement and each supplier is worth as a whole, and why each offer is rented.

Each answer is a relaxation solved anew with one thing changed, so it is exact for whole statements where a
shadow price holds at the margin only; whole units make the true figures differ by at most the plan's gap.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

from secondsource.planner.model import Model
from secondsource.planner.plan import Plan, units_in_service
from secondsource.planner.problem import Problem, Record, rent_nano_usd
from secondsource.planner.search import Found
from secondsource.planner.solve import Effort, Solution, Status, solve_linear

NANO = 1_000_000_000


class Worth(Record, frozen=True, kw_only=True):
    """What the yearly cost changes by without something, in dollars; None: no plan exists without it."""

    what: str
    usd_per_year: float | None
    words: str = ""  # the statement in the SPEC's own words


class Reason(Record, frozen=True, kw_only=True):
    """Why an offer is rented: what the plan would cost more without it, and what would take its place."""

    offer: str
    rent_usd: float
    usd_per_year_without: float | None
    instead: tuple[str, ...]


class Explanation(Record, frozen=True, kw_only=True):
    """Everything `plan --explain` says."""

    statements: tuple[Worth, ...]  # what it saves to drop the statement
    suppliers: tuple[Worth, ...]  # what it costs to do without the supplier
    offers: tuple[Reason, ...]


def explain(
    problem: Problem,
    model: Model,
    found: Found,
    plan: Plan,
    most: int = 12,
    say: Callable[[str], None] = lambda _: None,
) -> Explanation:
    """Return what each statement, supplier and rented offer (the `most` dearest) is worth."""
    effort = Effort(seconds=60.0)
    years = len(problem.months) / 12
    base = found.relaxation.objective
    statements = []
    for names in _groups(model.sparse.statements()):
        say(f"pricing {names[0]}")
        solution = solve_linear(model.sparse.without(frozenset(names)), effort)
        what = names[0] if len(names) == 1 else names[0].rpartition(".")[0]
        statements.append(Worth(what=what, usd_per_year=(base - solution.objective) * 1000 / years))
    suppliers = []
    for supplier in sorted(plan.costs.by_supplier):
        say(f"pricing supplier {supplier}")
        keys = frozenset(rental.key for rental in problem.rentals if rental.supplier == supplier)
        dearer = _dearer(found, _without(problem, model, keys, effort), years)
        suppliers.append(Worth(what=supplier, usd_per_year=dearer))
    offers = []
    for key, rent in _dearest(problem, plan, most):
        say(f"pricing offer {key}")
        offers.append(_reason(problem, model, found, key, rent, effort))
    return Explanation(statements=tuple(statements), suppliers=tuple(suppliers), offers=tuple(offers))


def _groups(statements: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the statements worth pricing, one by one, and all losses of a kind together as well."""
    priced = [key for key in statements if not key.startswith("demand.")]
    groups = [(key,) for key in priced]
    for kind in ("survive.suppliers.", "survive.vendors."):
        losses = tuple(key for key in priced if key.startswith(kind))
        if len(losses) > 1:
            groups.insert(0, losses)  # type: ignore[arg-type]
    return groups  # type: ignore[return-value]


def _without(problem: Problem, model: Model, keys: frozenset[str], effort: Effort) -> Solution:
    """Return the relaxation in which no unit of these offers is started; units already held stay."""
    upper = list(model.sparse.column_upper)
    for (r, _), column in model.variables.start.items():
        if problem.rentals[r].key in keys:
            upper[column] = 0.0
    return solve_linear(replace(model.sparse, column_upper=upper), effort)


def _dearer(found: Found, solution: Solution, years: float) -> float | None:
    if solution.status is Status.INFEASIBLE:
        return None
    return (solution.objective - found.relaxation.objective) * 1000 / years


def _dearest(problem: Problem, plan: Plan, most: int) -> list[tuple[str, int]]:
    service = units_in_service(problem, plan.starts)
    rents = {
        rental.key: sum(
            (units - rental.held_in(month)) * rent_nano_usd(problem, rental, month)
            for month, units in enumerate(service[rental.key])
        )
        for rental in problem.rentals
    }
    return sorted(((key, rent) for key, rent in rents.items() if rent), key=lambda item: -item[1])[:most]


def _reason(problem: Problem, model: Model, found: Found, key: str, rent: int, effort: Effort) -> Reason:
    solution = _without(problem, model, frozenset({key}), effort)
    dearer = _dearer(found, solution, len(problem.months) / 12)
    return Reason(
        offer=key,
        rent_usd=rent / NANO,
        usd_per_year_without=dearer,
        instead=() if dearer is None else _more_of(problem, model, found.relaxation, solution),
    )


def _more_of(problem: Problem, model: Model, before: Solution, after: Solution) -> tuple[str, ...]:
    """Return the two offers of which most more is rented, by rent."""
    more: dict[str, float] = defaultdict(float)
    for (r, month), column in model.variables.active.items():
        rental = problem.rentals[r]
        units = after.point[column] - before.point[column]
        more[rental.key] += units * rent_nano_usd(problem, rental, month)
    ranked = sorted(more, key=lambda key: -more[key])
    return tuple(key for key in ranked[:2] if more[key] > NANO)
