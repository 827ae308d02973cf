"""What a unit serves of a demand, asked of the profiles: the planner's one seam to them."""

from secondsource.core.demand import SizeClass, Slo
from secondsource.profiles.capacity import capacity


def profile_rate(model: str, chip: str, chips: int, size: SizeClass, slo: Slo, replicas: int) -> float:
    """Return requests/s of so many chips under the SLO in a pool of so many such; 0 where they cannot serve."""
    return capacity(model, chip, chips, size, slo, replicas).requests_per_s
