"""The page Plan: the plan that is kept, beside what is rented and what is asked for; and what a new plan would change.

Demand is measured over the last day of the ledger: its busiest five minutes are what a plan's requests/s are held
against, since a plan is for the busiest time of a month.
"""

import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from secondsource.console.answers import Now, PoolNow
from secondsource.core.fleet import Fleet
from secondsource.gateway.books.ledger_reading import Reading, read_books
from secondsource.planner.kept import KeptPlan, KeptReport
from secondsource.planner.variables import NORMAL

SECOND_NS = 1_000_000_000
DAY_S = 86400
BUSY_S = 300
HOURS_PER_MONTH = 730


class DemandLine(msgspec.Struct, frozen=True, kw_only=True):
    """A lane as planned for this month and as measured; `drift` is how much more (0.1) or less (-0.1) was asked."""

    lane: str
    planned_requests_per_s: float
    busiest_requests_per_s: float | None  # None: nothing was asked in the last day
    mean_requests_per_s: float
    drift: float | None


class SupplyLine(msgspec.Struct, frozen=True, kw_only=True):
    """Chips of one supplier as planned for this month and as served by, and the part (0 to 1) of the requests."""

    supplier: str
    chip: str
    planned_chips: int
    rented_chips: int
    up_chips: int
    planned_share: float | None
    served_share: float | None


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """The plan beside what is."""

    name: str
    kept_at: datetime
    spec: str
    month: str
    in_time: bool  # False: this month is not in the plan, and the nearest stands for it
    months: list[str]
    usd_by_month: list[float]
    planned_usd: float  # this month's
    running_usd: float  # a month at the fleet's rent and use of this hour
    demand: list[DemandLine]
    supply: list[SupplyLine]


class Measured(msgspec.Struct, frozen=True):
    """Requests a second by lane, the busiest five minutes and the mean; first attempts by supplier and chip."""

    busiest: dict[str, float]
    mean: dict[str, float]
    served: dict[tuple[str, str], int]


def measure(state_dir: Path, now_ns: int | None = None) -> Measured:
    """Return what the last day of the ledger tells; raises InputError when it cannot be read."""
    now = time.time_ns() if now_ns is None else now_ns
    with read_books(state_dir) as reading:
        return _measured(reading, now)


def _measured(reading: Reading, now: int) -> Measured:
    since = now - DAY_S * SECOND_NS
    counts: dict[str, list[int]] = defaultdict(list)
    for lane, count in reading.connection.execute(
        "SELECT lane, count(*) FROM entry WHERE number = 1 AND at_ns >= ? GROUP BY lane, at_ns / ?",
        (since, BUSY_S * SECOND_NS),
    ):
        counts[lane].append(count)
    (oldest,) = reading.connection.execute("SELECT min(at_ns) FROM entry WHERE at_ns >= ?", (since,)).fetchone()
    seconds = max((now - (oldest or now)) / SECOND_NS, 1.0)
    served = {
        (supplier, chip): count
        for supplier, chip, count in reading.connection.execute(
            "SELECT supplier, chip, count(*) FROM entry WHERE at_ns >= ? AND outcome = 'ok' GROUP BY 1, 2", (since,)
        )
    }
    busy_s = min(BUSY_S, seconds)
    return Measured(
        busiest={lane: max(values) / busy_s for lane, values in counts.items()},
        mean={lane: sum(values) / seconds for lane, values in counts.items()},
        served=served,
    )


def stand(kept: KeptPlan, fleet: Fleet, now: Now, measured: Measured, today: datetime) -> Standing:
    """Return the plan beside what is."""
    plan = kept.plan
    month, in_time = _month(plan, today)
    at = plan.months.index(month)
    return Standing(
        name=plan.name,
        kept_at=kept.kept_at.astimezone(UTC),
        spec=kept.spec,
        month=month,
        in_time=in_time,
        months=list(plan.months),
        usd_by_month=[float(value) for value in plan.usd_by_month],
        planned_usd=float(plan.usd_by_month[at]),
        running_usd=now.usd_per_hour * HOURS_PER_MONTH,
        demand=_demand(plan, month, measured),
        supply=_supply(plan, month, fleet, now.pools, measured),
    )


def _month(plan: KeptReport, today: datetime) -> tuple[str, bool]:
    month = today.strftime("%Y-%m")
    if month in plan.months:
        return month, True
    return (plan.months[0] if month < plan.months[0] else plan.months[-1]), False


def _demand(plan: KeptReport, month: str, measured: Measured) -> list[DemandLine]:
    planned: dict[str, float] = defaultdict(float)
    for route in plan.routes:
        if route.case == NORMAL and route.month == month:
            planned[route.lane] += route.requests_per_s
    lines = []
    for lane in sorted(planned.keys() | measured.busiest.keys()):
        busiest = measured.busiest.get(lane)
        expected = planned.get(lane, 0.0)
        drift = busiest / expected - 1 if expected and busiest is not None else None
        lines.append(
            DemandLine(
                lane=lane,
                planned_requests_per_s=round(expected, 4),
                busiest_requests_per_s=busiest,
                mean_requests_per_s=measured.mean.get(lane, 0.0),
                drift=drift,
            )
        )
    return lines


def planned_chips(plan: KeptReport, month: str) -> dict[tuple[str, str], int]:
    """Return the chips in service in a month by supplier and chip."""
    at = plan.months.index(month)
    per_unit = {(start.supplier, start.chip): start.chips // start.units for start in plan.starts if start.units}
    chips: dict[tuple[str, str], int] = defaultdict(int)
    for pool in plan.pools:
        key = (pool.supplier, pool.chip)
        chips[key] += pool.units[at] * per_unit.get(key, 1)
    return chips


def _supply(
    plan: KeptReport, month: str, fleet: Fleet, pools: Sequence[PoolNow], measured: Measured
) -> list[SupplyLine]:
    planned, routed = planned_chips(plan, month), _routed(plan, month)
    rented: dict[tuple[str, str], int] = defaultdict(int)
    up: dict[tuple[str, str], int] = defaultdict(int)
    per_replica = {pool.name: pool.chips_per_replica for pool in fleet.pools}
    for pool in pools:
        key = (pool.supplier, pool.chip)
        rented[key] += pool.replicas * per_replica[pool.name]
        up[key] += pool.up * per_replica[pool.name] if pool.plugged else 0
    total, answered = sum(routed.values()), sum(measured.served.values())
    return [
        SupplyLine(
            supplier=key[0],
            chip=key[1],
            planned_chips=planned.get(key, 0),
            rented_chips=rented[key],
            up_chips=up[key],
            planned_share=routed.get(key, 0.0) / total if total else None,
            served_share=measured.served.get(key, 0) / answered if answered else None,
        )
        for key in sorted({key for key, count in planned.items() if count} | rented.keys())
    ]


def _routed(plan: KeptReport, month: str) -> dict[tuple[str, str], float]:
    owners = {pool.pool: (pool.supplier, pool.chip) for pool in plan.pools}
    routed: dict[tuple[str, str], float] = defaultdict(float)
    for route in plan.routes:
        if route.case == NORMAL and route.month == month and route.pool in owners:
            routed[owners[route.pool]] += route.requests_per_s
    return routed
