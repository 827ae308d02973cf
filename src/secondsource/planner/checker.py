"""Check a plan against its problem, from first principles and sharing no code with the model.

It reads the two records and nothing else of the planner: what the model forgot, the checker must find.
Money and units are checked exactly; traffic to one part in a million, and to what a millionth of a unit serves,
the solver's own tolerances.
"""

from collections.abc import Iterator

from secondsource.planner.plan import Plan
from secondsource.planner.problem import Problem

SLACK = 1e-6


def check_plan(problem: Problem, plan: Plan) -> tuple[str, ...]:
    """Return what is wrong with the plan, one sentence each; nothing for a sound plan."""
    service, faults = _service(problem, plan)
    if faults:
        return tuple(faults)
    return (
        *_availability(problem, service),
        *_money(problem, plan, service),
        *_traffic(problem, plan, service),
    )


def _service(problem: Problem, plan: Plan) -> tuple[dict[tuple[str, int], int], list[str]]:
    """Return units in service by (offer, month), and what is wrong with the starts themselves."""
    offers = {rental.key: rental for rental in problem.rentals}
    horizon = len(problem.months)
    service = {
        (key, month): (offer.held[month] if offer.held else 0)
        for key, offer in offers.items()
        for month in range(horizon)
    }
    faults: list[str] = []
    for start in plan.starts:
        offer = offers.get(start.offer)
        if offer is None:
            faults.append(f"{start.offer} is not among the offers")
            continue
        if start.units < 1 or start.units != int(start.units):
            faults.append(f"{start.offer}: {start.units} units cannot be started")
        if not offer.first_month <= start.month < horizon:
            faults.append(f"{start.offer}: cannot be started in month {start.month}")
        if start.units < offer.min_units:
            faults.append(f"{start.offer}: {start.units} units, under the smallest order {offer.min_units}")
        until = start.month + 1 if offer.term_months == 0 else start.month + offer.term_months
        for month in range(start.month, until):
            if month < horizon:
                service[start.offer, month] += start.units
    return service, faults


def _availability(problem: Problem, service: dict[tuple[str, int], int]) -> Iterator[str]:
    offers = {rental.key: rental for rental in problem.rentals}
    for (key, month), units in service.items():
        most = offers[key].max_units
        if most is not None and units > most:
            yield f"{key}: {units} units in {problem.months[month]}, of which only {most} are to be had"
    for limit in problem.limits:
        for month, most in enumerate(limit.max_chips):
            chips = sum(service[key, month] * offers[key].chips_per_unit for key in limit.rentals)
            if chips > most:
                yield f"{limit.key}: {chips} chips in {problem.months[month]}, more than {most}"


def _money(problem: Problem, plan: Plan, service: dict[tuple[str, int], int]) -> Iterator[str]:
    horizon = range(len(problem.months))
    spent: dict[tuple[str, int], int] = {}
    for rental in problem.rentals:
        for month in horizon:
            rent = service[rental.key, month] * problem.hours[month] * rental.nano_usd_per_unit_hour
            spent[rental.supplier, month] = spent.get((rental.supplier, month), 0) + rent
    totals = [sum(rent for (_, at), rent in spent.items() if at == month) for month in horizon]
    if plan.costs.rent != sum(totals):
        yield f"the plan says its rent is {plan.costs.rent}, and it is {sum(totals)} nano-dollars"
    for cap in problem.share_caps:
        for month in horizon:
            rent = spent.get((cap.supplier, month), 0)
            if rent > (cap.max_share + SLACK) * totals[month]:
                yield f"{cap.supplier} gets {rent / totals[month]:.4f} of {problem.months[month]}'s rent"
    for month, budget in enumerate(problem.budget_nano_usd):
        if totals[month] > budget * (1 + SLACK):
            yield f"{problem.months[month]} costs {totals[month]} nano-dollars, over its budget {budget}"


def _traffic(problem: Problem, plan: Plan, service: dict[tuple[str, int], int]) -> Iterator[str]:
    horizon = range(len(problem.months))
    number = {demand.key: d for d, demand in enumerate(problem.demands)}
    given_up = {(item.demand, item.month): item.share for item in plan.unserved}
    served: dict[tuple[str, str, int], float] = {}
    busy: dict[tuple[str, str, int], float] = {}
    for route in plan.routes:
        rate = problem.rates[route.pool][number[route.demand]]
        if rate <= 0 or route.requests_per_s < -SLACK:
            yield f"{route.pool} cannot serve {route.demand}, yet {route.requests_per_s:g}/s is sent to it"
            continue
        to = (route.case, route.demand, route.month)
        served[to] = served.get(to, 0.0) + route.requests_per_s
        at = (route.case, route.pool, route.month)
        busy[at] = busy.get(at, 0.0) + route.requests_per_s / rate
    for (case, pool, month), load in busy.items():
        units = _units_left(problem, service, case, pool, month)
        if load > units + SLACK * max(1.0, units):
            yield f"{pool} in {problem.months[month]}, {case}: {load:.6f} units busy of {units}"
    fastest = {
        demand.key: max((rates[d] for rates in problem.rates.values()), default=0.0)
        for d, demand in enumerate(problem.demands)
    }
    cases = [("normal", False), *((f"{loss.kind.value} {loss.name}", True) for loss in problem.losses)]
    for case, lost in cases:
        for demand in problem.demands:
            for month in horizon:
                share = demand.survive if lost else 1.0 - given_up.get((demand.key, month), 0.0)
                got = served.get((case, demand.key, month), 0.0)
                if got < (share - SLACK) * demand.peak[month] - SLACK * fastest[demand.key]:
                    yield (
                        f"{demand.key} in {problem.months[month]}, {case}: {got:.6f}/s served of "
                        f"{share * demand.peak[month]:.6f}/s"
                    )
                if not lost and demand.shortfall_nano_usd is None and share < 1.0:
                    yield f"{demand.key} must be served whole, and the plan gives up {1 - share:.4f} of it"


def _units_left(problem: Problem, service: dict[tuple[str, int], int], case: str, pool: str, month: int) -> int:
    """Return the pool's units that can be counted on in a case, worked out from the case's own name."""
    kind, _, name = case.partition(" ")
    units = 0
    for rental in problem.rentals:
        gone = (kind == "supplier" and rental.supplier == name) or (kind == "vendor" and rental.vendor == name)
        if kind != "normal" and not rental.firm:
            gone = True
        if rental.pool == pool and not gone:
            units += service[rental.key, month]
    return units
