"""Write the fleet file that a plan comes to in one month, for `secondsource up`."""

import re
from collections import defaultdict

from secondsource.core.errors import InputError
from secondsource.core.money import dollars
from secondsource.planner.plan import units_in_service
from secondsource.planner.planning import Planned
from secondsource.planner.problem import Rental
from secondsource.planner.spec import Spec
from secondsource.planner.variables import NORMAL


def fleet_text(spec: Spec, planned: Planned, month: str) -> str:
    """Return the fleet file's text: a pool for each model, supplier and chip, weighted as the plan routes.

    Replica addresses follow the SPEC's `fleet.replica_url`, in which `{pool}` and `{number}` are filled in.
    """
    if month not in planned.plan.months:
        months = planned.plan.months
        raise InputError(f"--month {month}: not in the plan, {months[0]} to {months[-1]}")
    at = planned.plan.months.index(month)
    parts = [
        f"# The fleet of {spec.name} in {month}, written by `secondsource plan --write-fleet`.",
        "",
    ]
    pools = _pools(spec, planned, at)
    shares = {supplier.name: supplier.max_share for supplier in spec.suppliers}
    for name in sorted({line.split('"')[1] for pool in pools for line in pool if line.startswith("supplier")}):
        share = shares.get(name)
        parts += [f"[suppliers.{name}]", *([f"max_share = {share:g}"] if share is not None else []), ""]
    for pool in pools:
        parts += [*pool, ""]
    for lane in spec.lanes:
        parts += ["[[lanes]]", f'name = "{lane.name}"', f"priority = {lane.priority}"]
        parts += [f"ttft_s = {lane.slo.ttft_s:g}"] if lane.slo.ttft_s else []
        parts += [f"tpot_s = {lane.slo.tpot_s:g}"] if lane.slo.tpot_s else []
        parts.append("")
    return "\n".join(parts)


def _pools(spec: Spec, planned: Planned, month: int) -> list[list[str]]:
    problem = planned.problem
    demands = {demand.key: (d, demand) for d, demand in enumerate(problem.demands)}
    traffic: dict[tuple[str, str], float] = defaultdict(float)
    busy: dict[tuple[str, str], float] = defaultdict(float)
    for route in planned.plan.routes:
        if route.case == NORMAL and route.month == month:
            d, demand = demands[route.demand]
            traffic[demand.model, route.pool] += route.requests_per_s
            busy[demand.model, route.pool] += route.requests_per_s / problem.rates[route.pool][d]
    total = {model: sum(rate for (name, _), rate in traffic.items() if name == model) for model, _ in traffic}
    owners = {rental.pool: rental for rental in problem.rentals}
    service = units_in_service(problem, planned.plan.starts)
    texts = []
    for (model, pool), rate in sorted(traffic.items()):
        rental = owners[pool]
        units = sum(service[r.key][month] for r in problem.rentals if r.pool == pool)
        load = sum(share for (_, other), share in busy.items() if other == pool)
        chips = next(m.chips_per_replica for m in spec.models if m.name == model).get(
            rental.chip, rental.chips_per_unit
        )
        mine = units * rental.chips_per_unit * busy[model, pool] / load / chips
        price = _price_per_chip(planned, pool, month, service)
        texts.append(_pool_text(spec, model, rental, chips, max(1, round(mine)), rate / total[model], price))
    return texts


def _price_per_chip(planned: Planned, pool: str, month: int, service: dict[str, list[int]]) -> str:
    """Return the mean price of the pool's chips over its offers in service, as decimal dollars."""
    chips = rent = 0
    for rental in planned.problem.rentals:
        if rental.pool == pool:
            units = service[rental.key][month]
            chips += units * rental.chips_per_unit
            rent += units * rental.nano_usd_per_unit_hour
    return f"{dollars(rent // chips if chips else 0):.6f}"


def _pool_text(
    spec: Spec, model: str, rental: Rental, chips: int, replicas: int, share: float, price: str
) -> list[str]:
    name = re.sub(r"[^A-Za-z0-9._-]", "-", f"{rental.supplier}-{rental.chip}-{model}")
    if rental.chips_per_unit != chips:
        name = f"{name}-x{rental.chips_per_unit}"
    profile = next(m.profile for m in spec.models if m.name == model)
    urls = [spec.replica_url.format(pool=name, number=number) for number in range(1, replicas + 1)]
    return [
        "[[pools]]",
        f'name = "{name}"',
        f'supplier = "{rental.supplier}"',
        f'chip = "{rental.chip}"',
        f"chips_per_replica = {chips}",
        f"usd_per_chip_hour = {price}",
        f'model = "{model}"',
        f'upstream_model = "{profile}"',
        "replicas = [",
        *(f'    "{url}",' for url in urls),
        "]",
        f"weight = {max(share, 1e-6):.6f}",
    ]
