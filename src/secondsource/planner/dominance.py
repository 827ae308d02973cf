"""Drop the rentals that no best plan needs, so that the model stays small."""

from itertools import groupby

import msgspec

from secondsource.planner.problem import Problem, Rental


def drop_dominated(problem: Problem) -> Problem:
    """Return the problem without rentals for which another of the same pool is never worse.

    One is never worse when it costs no more, is given back no later (or after the same term), starts no
    later, is as firm, has neither a cap of its own nor a smallest order, and counts towards no limit that the
    other does not count towards. Costs the plan nothing: any plan with the worse one is as good with the
    better one in its place. (With a share cap one could think of paying a supplier more for the same chip to
    make room for another; that is not a plan to propose.)
    """
    limits = {
        rental.key: frozenset(limit.key for limit in problem.limits if rental.key in limit.rentals)
        for rental in problem.rentals
    }
    kept: list[Rental] = []
    ordered = sorted(problem.rentals, key=lambda r: (r.pool, r.nano_usd_per_unit_hour, r.term_months, r.key))
    for _, pool in groupby(ordered, key=lambda rental: rental.pool):
        best: list[Rental] = []
        for rental in pool:
            better = (other for other in best if limits[other.key] <= limits[rental.key])
            if rental.held or not any(_never_worse(other, rental) for other in better):
                kept.append(rental)
                if rental.max_units is None and rental.min_units <= 1:
                    best.append(rental)
    order = {rental.key: i for i, rental in enumerate(problem.rentals)}
    names = {rental.key for rental in kept}
    return msgspec.structs.replace(
        problem,
        rentals=tuple(sorted(kept, key=lambda rental: order[rental.key])),
        limits=tuple(
            msgspec.structs.replace(limit, rentals=tuple(key for key in limit.rentals if key in names))
            for limit in problem.limits
        ),
    )


def _never_worse(other: Rental, rental: Rental) -> bool:
    """Whether `other`, which costs no more and is free of caps, can stand in for `rental`."""
    as_short = max(1, other.term_months) == max(1, rental.term_months) or other.term_months <= 1
    return as_short and other.first_month <= rental.first_month and (other.firm or not rental.firm)
