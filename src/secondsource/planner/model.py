"""Put the model together: variables, then every family of constraints, then the objective."""

import math
from dataclasses import dataclass

from secondsource.planner import constraints, objective, variables
from secondsource.planner.problem import Loss, Problem
from secondsource.planner.sparse import Sparse
from secondsource.planner.variables import Variables


@dataclass(frozen=True, slots=True)
class Model:
    """A problem as sparse rows, with where each variable is."""

    sparse: Sparse
    variables: Variables
    least_order: tuple[int, ...]  # by rental
    term_months: tuple[int, ...]

    @property
    def orders_open(self) -> bool:
        """Whether it is not yet decided of every smallest order whether it is placed."""
        lower, upper = self.sparse.column_lower, self.sparse.column_upper
        return any(lower[column] < upper[column] for column in self.variables.ordered.values())


def build_model(problem: Problem) -> Model:
    """Return the deterministic model of a problem: the normal case and every loss, in every month."""
    sparse = Sparse()
    placed = Variables(groups=variables.group_pools(problem))
    variables.add_units(sparse, problem, placed)
    variables.add_sums(sparse, problem, placed)
    constraints.count_pools(sparse, problem, placed)
    constraints.count_spend(sparse, problem, placed)
    constraints.keep_terms(sparse, problem, placed)
    constraints.keep_availability(sparse, problem, placed)
    constraints.keep_minimum_orders(sparse, problem, placed, most_units(problem))
    cases: tuple[Loss | None, ...] = (None, *problem.losses)
    for loss in cases:
        variables.add_routes(sparse, problem, placed, loss)
        constraints.meet_demand(sparse, problem, placed, loss)
        constraints.keep_capacity(sparse, problem, placed, loss)
    constraints.cap_shares(sparse, problem, placed)
    constraints.keep_budget(sparse, problem, placed)
    objective.add_rent(sparse, problem, placed)
    objective.add_shortfall(sparse, problem, placed)
    rentals = problem.rentals
    least, terms = tuple(rental.min_units for rental in rentals), tuple(rental.term_months for rental in rentals)
    return Model(sparse, placed, least, terms)


def most_units(problem: Problem) -> float:
    """Return more units than any one order could usefully hold: all of the peak on the slowest pool."""
    rates = list(problem.rates.values())
    total = 0.0
    for d, demand in enumerate(problem.demands):
        usable = [row[d] for row in rates if row[d] > 0]
        if usable:
            total += max(demand.peak) / min(usable)
    return math.ceil(total) + max((rental.min_units for rental in problem.rentals), default=0)
