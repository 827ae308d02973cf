"""What a unit serves of a demand, asked of the profiles: the planner's one seam to them."""

from collections.abc import Callable

import msgspec

from secondsource.catalog.records import Catalog
from secondsource.core.demand import SizeClass, Slo
from secondsource.planner.problem import Record
from secondsource.profiles.capacity import capacity, shipped_profiles
from secondsource.profiles.efficiency import Correction


class Rated(Record, frozen=True, kw_only=True):
    """Requests/s of one replica as a profile predicts them, and how far to trust it; 0 where it cannot serve."""

    requests_per_s: float
    evidence: str = "compiled"
    error: float = 0.0  # the median relative error of such predictions


# of a model, on a chip, by so many chips, for a class, under an SLO, among so many replicas in its pool
RateOf = Callable[[str, str, int, SizeClass, Slo, int], Rated]


def profile_rates(catalog: Catalog, compiled: tuple[Correction, ...] = ()) -> RateOf:
    """Return what the profiles say of the catalogue's chips, the SPEC's own among them, and what a compiler said."""
    profiles = msgspec.structs.replace(shipped_profiles(), chips=catalog.chips, compiled=compiled)

    def rate(model: str, chip: str, chips: int, size: SizeClass, slo: Slo, replicas: int) -> Rated:
        found = capacity(model, chip, chips, size, slo, replicas, profiles=profiles)
        return Rated(requests_per_s=found.requests_per_s, evidence=found.evidence.value, error=found.accuracy.median)

    return rate
