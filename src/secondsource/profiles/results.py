"""What a profile answers: a unit's capacity for one size class, with the reasons and the evidence."""

import msgspec

from secondsource.profiles.efficiency import Accuracy, Evidence
from secondsource.profiles.roofline import Precision


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """What one unit of chips serves within a service level.

    `requests_per_s` is whole requests (or images) per second at the safe utilisation; 0 with a `reason` where
    the unit cannot serve the class at all. The other rates follow from it and the class's mean sizes.
    """

    requests_per_s: float
    input_tokens_per_s: float = 0.0
    output_tokens_per_s: float = 0.0
    image_steps_per_s: float = 0.0
    utilisation: float = 0.0  # of the unit's full rate at this batch, that is safe under the TTFT limit
    batch: int = 0  # sequences that run at once in one replica
    replicas: int = 0  # copies of the model in one unit
    chips_per_replica: int = 0
    precision: Precision | None = None
    tpot_s: float = 0.0  # at that batch
    first_s: float = 0.0  # to the first token (or the whole image) where nothing waits
    evidence: Evidence = Evidence.COMPILED
    accuracy: Accuracy  # relative error of the rate
    source: str = ""
    reason: str = ""  # why the rate is 0


def nothing(reason: str, evidence: Evidence, accuracy: Accuracy) -> Capacity:
    """Return the capacity of a unit that cannot serve the class."""
    return Capacity(requests_per_s=0.0, reason=reason, evidence=evidence, accuracy=accuracy)
