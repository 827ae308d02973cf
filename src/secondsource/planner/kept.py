"""The plan that is kept beside the books of what serves, so that the console can hold it against what happens.

The records here are the parts of a report that the console reads. They stand apart from `planner.report` because
whatever makes a report brings the solver with it, and who serves has none.
"""

import os
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from secondsource.core.errors import InputError
from secondsource.planner.problem import Record
from secondsource.planner.spec import Spec

KEPT_FILE = "plan.json"


class KeptStart(Record, frozen=True, kw_only=True):
    """Units of an offer that begin in a month, and their chips."""

    supplier: str
    chip: str
    units: int
    chips: int


class KeptPool(Record, frozen=True, kw_only=True):
    """Units in service, by month."""

    pool: str
    supplier: str
    chip: str
    units: tuple[int, ...]


class KeptRoute(Record, frozen=True, kw_only=True):
    """Traffic of a lane to a pool in one case and month, in requests/s at the busiest time."""

    case: str
    lane: str
    month: str
    pool: str
    requests_per_s: float


class KeptReport(Record, frozen=True, kw_only=True):
    """What is read of the JSON that `plan --json` prints; amounts in dollars."""

    name: str
    months: tuple[str, ...]
    total_usd: float
    gap: float
    usd_by_month: tuple[float, ...]
    starts: tuple[KeptStart, ...]
    pools: tuple[KeptPool, ...]
    routes: tuple[KeptRoute, ...]


class KeptPlan(Record, frozen=True, kw_only=True):
    """A plan, when it was kept, and the SPEC file it was made from."""

    kept_at: datetime
    spec: str
    plan: KeptReport


class _Written(Record, frozen=True, kw_only=True):
    kept_at: datetime
    spec: str
    plan: Record


def keep(directory: Path, spec: Path, report: Record) -> Path:
    """Write a plan's report into a state directory, whole or not at all; raises InputError where that cannot be."""
    kept = _Written(kept_at=datetime.now(UTC), spec=str(spec.resolve()), plan=report)
    path = directory / KEPT_FILE
    beside = path.with_suffix(f".{os.getpid()}")
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        beside.write_bytes(msgspec.json.Encoder(decimal_format="number").encode(kept))
        beside.replace(path)
    except OSError as error:
        raise InputError(f"{path}: the plan cannot be kept there: {error.strerror}") from error
    return path


def read_kept(directory: Path) -> KeptPlan | None:
    """Return the plan that is kept in a state directory, or None; raises InputError for one that cannot be read."""
    path = directory / KEPT_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=KeptPlan)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise InputError(f"{path}: no plan of this version ({error}); keep it again: plan SPEC.toml --keep") from None


def with_demand(spec: Spec, factors: dict[str, float]) -> Spec:
    """Return a SPEC whose lanes want this many times what it says; raises InputError for a lane it does not have."""
    known = {demand.lane for demand in spec.demand}
    unknown = sorted(factors.keys() - known)
    if unknown:
        raise InputError(
            f"--demand: the SPEC has no demand of the lane {unknown[0]!r}; it has {', '.join(sorted(known))}"
        )
    demands = tuple(
        msgspec.structs.replace(demand, peak=tuple(peak * factors.get(demand.lane, 1.0) for peak in demand.peak))
        for demand in spec.demand
    )
    return msgspec.structs.replace(spec, demand=demands)
