"""What the plan minimises: rent, what is owed after the horizon, and what unserved requests lose.

In thousands of dollars, as floats; the plan's own figures are counted anew in integers.
"""

from secondsource.planner.constraints import NANO_PER_THOUSAND_USD
from secondsource.planner.problem import Demand, Problem, owed_months
from secondsource.planner.sparse import Sparse
from secondsource.planner.variables import Variables


def add_rent(model: Sparse, problem: Problem, variables: Variables) -> None:
    """Add rent within the horizon and the counted part of what is owed after it."""
    for column in variables.spend.values():
        model.cost[column] += 1.0
    for (r, month), column in variables.start.items():
        rental = problem.rentals[r]
        owed = owed_months(problem, rental, month) * problem.hours_after_horizon
        counted = problem.owed_after_horizon * owed * rental.nano_usd_per_unit_hour
        model.cost[column] += counted / NANO_PER_THOUSAND_USD


def shortfall_cost(problem: Problem, demand: Demand, month: int) -> float:
    """Return what it loses, in thousands of dollars, to serve none of a demand for a whole month."""
    requests = demand.peak[month] * demand.mean_to_peak * problem.hours[month] * 3600
    return requests * (demand.shortfall_nano_usd or 0) / NANO_PER_THOUSAND_USD


def add_shortfall(model: Sparse, problem: Problem, variables: Variables) -> None:
    """Add the loss by requests not served in the normal case."""
    for (d, month), column in variables.short.items():
        model.cost[column] += shortfall_cost(problem, problem.demands[d], month)
