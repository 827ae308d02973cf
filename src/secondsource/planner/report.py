"""The plan as `--json` prints it and the tables show it: in dollars, month names and the SPEC's words.

The keys here are stable; docs/planner.md documents them.
"""

from collections import defaultdict
from decimal import Decimal

import msgspec

from secondsource.core.money import dollars
from secondsource.planner.certificate import Price, price_statements
from secondsource.planner.explain import Explanation
from secondsource.planner.plan import units_in_service
from secondsource.planner.planning import Planned
from secondsource.planner.problem import Problem, Record, rent_nano_usd
from secondsource.planner.scenarios import Outlook
from secondsource.planner.spec import Spec
from secondsource.planner.spec_words import in_words
from secondsource.planner.variables import NORMAL

_CENTS = Decimal("0.01")


class StartLine(Record, frozen=True, kw_only=True):
    """Units to start."""

    offer: str
    supplier: str
    chip: str
    month: str
    units: int
    chips: int
    term_months: int
    usd_per_chip_hour: Decimal


class RouteLine(Record, frozen=True, kw_only=True):
    """Where a lane's traffic goes."""

    case: str
    lane: str
    size_class: str
    month: str
    pool: str
    requests_per_s: float
    share: float


class PoolLine(Record, frozen=True, kw_only=True):
    """Units in service, by month."""

    pool: str
    supplier: str
    chip: str
    units: tuple[int, ...]


class BindingLine(Record, frozen=True, kw_only=True):
    """A statement that binds, and its price at the margin."""

    statement: str
    words: str
    usd_per_year: float
    per: str
    months: tuple[str, ...]


class RateLine(Record, frozen=True, kw_only=True):
    """What one unit of a pool serves of a demand, and what that stands on."""

    pool: str
    lane: str
    size_class: str
    requests_per_s: float
    evidence: str
    error: float
    taken_off: float


class Report(Record, frozen=True, kw_only=True):
    """Everything about a plan."""

    name: str
    months: tuple[str, ...]
    total_usd: Decimal
    rent_usd: Decimal
    owed_after_horizon_usd: Decimal
    counted_after_horizon_usd: Decimal
    shortfall_usd: Decimal
    objective_usd: Decimal
    bound_usd: Decimal
    gap: float
    seconds: float
    usd_per_million_tokens: float | None
    usd_per_1000_images: float | None
    usd_by_month: tuple[Decimal, ...]
    usd_by_supplier: dict[str, Decimal]
    usd_by_chip: dict[str, Decimal]
    starts: tuple[StartLine, ...]
    pools: tuple[PoolLine, ...]
    rates: tuple[RateLine, ...]
    routes: tuple[RouteLine, ...]
    unserved: tuple[RouteLine, ...]
    binding: tuple[BindingLine, ...]
    explanation: Explanation | None = None
    outlook: Outlook | None = None
    warnings: tuple[str, ...] = ()


def make_report(
    spec: Spec,
    planned: Planned,
    explanation: Explanation | None = None,
    outlook: Outlook | None = None,
    warnings: tuple[str, ...] = (),
) -> Report:
    """Return the report of a plan."""
    plan, problem = planned.plan, planned.problem
    tokens, images = _unit_costs(planned)
    return Report(
        name=spec.name,
        months=plan.months,
        total_usd=_usd(plan.total),
        rent_usd=_usd(plan.costs.rent),
        owed_after_horizon_usd=_usd(plan.costs.owed_after_horizon),
        counted_after_horizon_usd=_usd(plan.costs.counted_after_horizon),
        shortfall_usd=_usd(plan.costs.shortfall),
        objective_usd=_usd(plan.objective_nano_usd),
        bound_usd=_usd(plan.bound_nano_usd),
        gap=plan.gap,
        seconds=round(planned.found.seconds, 3),
        usd_per_million_tokens=tokens,
        usd_per_1000_images=images,
        usd_by_month=tuple(_usd(value) for value in plan.costs.by_month),
        usd_by_supplier={key: _usd(value) for key, value in plan.costs.by_supplier.items()},
        usd_by_chip={key: _usd(value) for key, value in plan.costs.by_chip.items()},
        starts=_start_lines(planned),
        pools=_pool_lines(planned),
        rates=_rate_lines(planned),
        routes=_route_lines(planned),
        unserved=_unserved_lines(planned),
        binding=tuple(
            _binding_line(spec, problem, price) for price in price_statements(problem, planned.model, planned.found)
        ),
        explanation=None if explanation is None else _worded(spec, explanation),
        outlook=outlook,
        warnings=warnings,
    )


def _worded(spec: Spec, explanation: Explanation) -> Explanation:
    statements = []
    for item in explanation.statements:
        words = (
            in_words(spec.words, item.what)
            .replace("supplier NAME", "any supplier")
            .replace("vendor NAME", "any vendor")
        )
        statements.append(msgspec.structs.replace(item, words=words))
    return msgspec.structs.replace(explanation, statements=tuple(statements))


def _usd(amount: int) -> Decimal:
    return dollars(amount).quantize(_CENTS)


def _start_lines(planned: Planned) -> tuple[StartLine, ...]:
    rentals = {rental.key: rental for rental in planned.problem.rentals}
    lines = []
    for start in planned.plan.starts:
        rental = rentals[start.offer]
        lines.append(
            StartLine(
                offer=start.offer,
                supplier=rental.supplier,
                chip=rental.chip,
                month=planned.plan.months[start.month],
                units=start.units,
                chips=start.units * rental.chips_per_unit,
                term_months=rental.term_months,
                usd_per_chip_hour=dollars(rental.nano_usd_per_unit_hour) / rental.chips_per_unit,
            )
        )
    return tuple(lines)


def _pool_lines(planned: Planned) -> tuple[PoolLine, ...]:
    service = units_in_service(planned.problem, planned.plan.starts)
    units: dict[str, list[int]] = {}
    owner = {rental.pool: rental for rental in planned.problem.rentals}
    for rental in planned.problem.rentals:
        total = units.setdefault(rental.pool, [0] * len(planned.plan.months))
        for month, count in enumerate(service[rental.key]):
            total[month] += count
    return tuple(
        PoolLine(pool=pool, supplier=owner[pool].supplier, chip=owner[pool].chip, units=tuple(counts))
        for pool, counts in sorted(units.items())
        if any(counts)
    )


def _rate_lines(planned: Planned) -> tuple[RateLine, ...]:
    problem = planned.problem
    used = {route.pool for route in planned.plan.routes}
    return tuple(
        RateLine(
            pool=pool,
            lane=demand.lane,
            size_class=demand.size_class,
            requests_per_s=round(rate, 6),
            evidence=basis.evidence,
            error=round(basis.error, 4),
            taken_off=round(basis.taken_off, 4),
        )
        for pool in sorted(used & problem.bases.keys())
        for demand, rate, basis in zip(problem.demands, problem.rates[pool], problem.bases[pool], strict=True)
        if rate > 0
    )


def _route_lines(planned: Planned) -> tuple[RouteLine, ...]:
    demands = {demand.key: demand for demand in planned.problem.demands}
    return tuple(
        RouteLine(
            case=route.case,
            lane=demands[route.demand].lane,
            size_class=demands[route.demand].size_class,
            month=planned.plan.months[route.month],
            pool=route.pool,
            requests_per_s=round(route.requests_per_s, 6),
            share=round(route.requests_per_s / demands[route.demand].peak[route.month], 6),
        )
        for route in planned.plan.routes
    )


def _unserved_lines(planned: Planned) -> tuple[RouteLine, ...]:
    demands = {demand.key: demand for demand in planned.problem.demands}
    return tuple(
        RouteLine(
            case=NORMAL,
            lane=demands[item.demand].lane,
            size_class=demands[item.demand].size_class,
            month=planned.plan.months[item.month],
            pool="",
            requests_per_s=round(item.share * demands[item.demand].peak[item.month], 6),
            share=round(item.share, 6),
        )
        for item in planned.plan.unserved
    )


def _binding_line(spec: Spec, problem: Problem, price: Price) -> BindingLine:
    return BindingLine(
        statement=price.statement,
        words=in_words(spec.words, price.statement),
        usd_per_year=round(price.usd_per_year, 2),
        per=price.per,
        months=tuple(problem.months[month] for month in price.months),
    )


def _unit_costs(planned: Planned) -> tuple[float | None, float | None]:
    """Return dollars per million tokens and per thousand images.

    A pool's rent in a month is split by the time its units are busy with each; idle rent is spread over both.
    """
    problem, plan = planned.problem, planned.plan
    demands = {demand.key: (d, demand) for d, demand in enumerate(problem.demands)}
    service = units_in_service(problem, plan.starts)
    rents: dict[tuple[str, int], int] = defaultdict(int)
    for rental in problem.rentals:
        for month, units in enumerate(service[rental.key]):
            rents[rental.pool, month] += units * rent_nano_usd(problem, rental, month)
    busy: dict[tuple[str, int], dict[bool, float]] = defaultdict(lambda: {True: 0.0, False: 0.0})
    amounts = {True: 0.0, False: 0.0}
    for route in plan.routes:
        if route.case == NORMAL:
            d, demand = demands[route.demand]
            image = demand.image_steps > 0
            busy[route.pool, route.month][image] += route.requests_per_s / problem.rates[route.pool][d]
            requests = route.requests_per_s * demand.mean_to_peak * problem.hours[route.month] * 3600
            amounts[image] += requests * (1.0 if image else demand.input_tokens + demand.output_tokens)
    spent = {True: 0.0, False: 0.0}
    for at, parts in busy.items():
        for image, load in parts.items():
            spent[image] += rents[at] * load / sum(parts.values())
    scale = plan.costs.rent / sum(spent.values()) if any(spent.values()) else 0.0
    tokens = spent[False] * scale / amounts[False] * 1e6 / 1e9 if amounts[False] else None
    images = spent[True] * scale / amounts[True] * 1e3 / 1e9 if amounts[True] else None
    return tokens, images
