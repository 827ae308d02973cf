"""The model's constraints, one function a family, each with its inequality.

Notation: `n[o,m]` units of offer o started in month m, `a[o,m]` in service, `x[c,g,d,m]` the units of group
g that are busy with demand d in month m and case c, `s` the share not served, `D[d,m]` the demand's peak
rate, `mu[g,d]` the rate of one unit, `p[o,m]` a unit's rent. Rows of demand are divided by the fastest unit's
rate, so that everything but money is counted in units; the interior-point method needs that.
"""

from secondsource.planner.problem import Loss, Problem, rent_nano_usd
from secondsource.planner.sparse import INFINITY, Sparse, Tag
from secondsource.planner.variables import NORMAL, Variables, kept_pools

NANO_PER_THOUSAND_USD = 1e12


def demand_key(lane: str, size_class: str) -> str:
    """Return the statement that asks for a demand to be met."""
    return f"demand.{lane}.{size_class}"


def meet_demand(model: Sparse, problem: Problem, variables: Variables, loss: Loss | None) -> None:
    """`sum_g mu[g,d] * x[c,g,d,m] + D[d,m] * s[d,m] >= required[c,d] * D[d,m]` for all c, d and m.

    `required` is 1 in the normal case, and the lane's `survive` when something is lost; `s` is for demands
    with a shortfall price, in the normal case alone.
    """
    case = loss.key if loss else NORMAL
    groups = range(len(variables.groups))
    for d, demand in enumerate(problem.demands):
        required = demand.survive if loss else 1.0
        if required <= 0:
            continue
        fastest = max((group.rates[d] for group in variables.groups), default=0.0) or 1.0
        statements = (demand_key(demand.lane, demand.size_class), *((loss_key(loss),) if loss else ()))
        for month in range(len(problem.months)):
            if demand.peak[month] <= 0:
                continue
            units = demand.peak[month] / fastest
            terms = [
                (variables.served[case, g, d, month], variables.groups[g].rates[d] / fastest)
                for g in groups
                if (case, g, d, month) in variables.served
            ]
            if loss is None and (d, month) in variables.short:
                terms.append((variables.short[d, month], units))
            tag = Tag("demand", demand.key, month, case, statements)
            model.row(tag, terms, required * units, INFINITY)


def loss_key(loss: Loss) -> str:
    """Return the statement that asks for a loss to be survived."""
    return f"survive.{loss.kind}s.{loss.name}"


def keep_capacity(model: Sparse, problem: Problem, variables: Variables, loss: Loss | None) -> None:
    """`sum_d x[c,g,d,m] <= sum_{pool in g, not lost in c} u[pool,m]`.

    Holds by arithmetic: a unit has one second a second, and the rates already respect the lanes' SLOs.
    """
    case = loss.key if loss else NORMAL
    kept = kept_pools(problem, loss)
    for g, group in enumerate(variables.groups):
        for month in range(len(problem.months)):
            terms = [
                (variables.served[case, g, d, month], 1.0)
                for d in range(len(problem.demands))
                if (case, g, d, month) in variables.served
            ]
            if terms:
                pools = (pool for pool in group.pools if pool in kept)
                terms += [(variables.pool[pool, loss is not None, month], -1.0) for pool in pools]
                model.row(Tag("capacity", group.key, month, case), terms, -INFINITY, 0.0)


def count_pools(model: Sparse, problem: Problem, variables: Variables) -> None:
    """`u[pool,m] = sum_{o in pool} (a[o,m] + held[o,m])`, once for all units and once for the firm ones."""
    for (pool, firm, month), column in variables.pool.items():
        members = [
            (r, rental) for r, rental in enumerate(problem.rentals) if rental.pool == pool and (rental.firm or not firm)
        ]
        terms = [(variables.active[r, month], -1.0) for r, _ in members if (r, month) in variables.active]
        held = float(sum(rental.held_in(month) for _, rental in members))
        model.row(Tag("pool", pool, month), [(column, 1.0), *terms], held, held)


def keep_terms(model: Sparse, problem: Problem, variables: Variables) -> None:
    """`a[o,m] = a[o,m-1] + n[o,m] - n[o,m-T]`: a commitment of T months is in service for just those."""
    for r, rental in enumerate(problem.rentals):
        if rental.term_months <= 1:
            continue
        for month in range(rental.first_month, len(problem.months)):
            terms = [(variables.active[r, month], 1.0), (variables.start[r, month], -1.0)]
            if (r, month - 1) in variables.active:
                terms.append((variables.active[r, month - 1], -1.0))
            if (r, month - rental.term_months) in variables.start:
                terms.append((variables.start[r, month - rental.term_months], 1.0))
            model.row(Tag("term", rental.key, month), terms, 0.0, 0.0)


def keep_availability(model: Sparse, problem: Problem, variables: Variables) -> None:
    """`a[o,m] + held[o,m] <= max_units[o]`, and for each limit `sum_o chips[o] * (a + held) <= max_chips[m]`.

    Lead times need no row: before an offer's first month there is no variable.
    """
    index = {rental.key: r for r, rental in enumerate(problem.rentals)}
    for r, rental in enumerate(problem.rentals):
        if rental.max_units is None:
            continue
        for month in range(rental.first_month, len(problem.months)):
            tag = Tag("availability", rental.key, month, "", (f"offers.{rental.key}.max_units",))
            upper = float(rental.max_units - rental.held_in(month))
            model.row(tag, [(variables.active[r, month], 1.0)], -INFINITY, upper)
    for limit in problem.limits:
        for month, chips in enumerate(limit.max_chips):
            members = [(index[key], problem.rentals[index[key]]) for key in limit.rentals]
            terms = [
                (variables.active[r, month], float(rental.chips_per_unit))
                for r, rental in members
                if (r, month) in variables.active
            ]
            held = sum(rental.chips_per_unit * rental.held_in(month) for _, rental in members)
            if terms:
                tag = Tag("limit", limit.key, month, "", (limit.key,))
                model.row(tag, terms, -INFINITY, float(chips - held))


def count_spend(model: Sparse, problem: Problem, variables: Variables) -> None:
    """`e[s,m] = sum_{o of s} p[o,m] * (a[o,m] + held[o,m])`, a supplier's rent in thousands of dollars."""
    for (supplier, month), column in variables.spend.items():
        terms = [(column, 1.0)]
        constant = 0.0
        for r, rental in enumerate(problem.rentals):
            if rental.supplier == supplier:
                rent = rent_nano_usd(problem, rental, month) / NANO_PER_THOUSAND_USD
                constant += rent * rental.held_in(month)
                if (r, month) in variables.active:
                    terms.append((variables.active[r, month], -rent))
        model.row(Tag("spend", supplier, month), terms, constant, constant)


def cap_shares(model: Sparse, problem: Problem, variables: Variables) -> None:
    """`e[s,m] <= max_share[s] * sum_t e[t,m]`, held units included."""
    for cap in problem.share_caps:
        for month in range(len(problem.months)):
            terms = [
                (column, (1.0 if supplier == cap.supplier else 0.0) - cap.max_share)
                for (supplier, at), column in variables.spend.items()
                if at == month
            ]
            tag = Tag("share", cap.supplier, month, "", (f"suppliers.{cap.supplier}.max_share",))
            model.row(tag, terms, -INFINITY, 0.0)


def keep_budget(model: Sparse, problem: Problem, variables: Variables) -> None:
    """`sum_s e[s,m] <= budget[m]`, held units included."""
    for month, budget in enumerate(problem.budget_nano_usd):
        terms = [(column, 1.0) for (_, at), column in variables.spend.items() if at == month]
        tag = Tag("budget", "all", month, "", ("budget.usd_per_month",))
        model.row(tag, terms, -INFINITY, budget / NANO_PER_THOUSAND_USD)


def keep_minimum_orders(model: Sparse, problem: Problem, variables: Variables, most_units: float) -> None:
    """`min_units * z[o,m] <= n[o,m] <= most_units * z[o,m]` with `z` 0 or 1: no order, or a whole one."""
    for (r, month), ordered in variables.ordered.items():
        rental = problem.rentals[r]
        start = variables.start[r, month]
        statements = (f"offers.{rental.key}.min_units",)
        low = [(start, 1.0), (ordered, -float(rental.min_units))]
        high = [(start, 1.0), (ordered, -max(most_units, float(rental.min_units)))]
        model.row(Tag("minimum", rental.key, month, "", statements), low, 0.0, INFINITY)
        model.row(Tag("minimum", rental.key, month, "", statements), high, -INFINITY, 0.0)
