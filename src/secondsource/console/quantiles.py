"""Quantiles of durations that are kept as counts in buckets 5% wide: small to hold, quick to add up."""

import math
from collections import Counter
from collections.abc import Iterable

WIDTH = math.log(1.05)
SMALLEST_S = 1e-4


def bucket_of(seconds: float) -> int:
    """Return the bucket of a duration in seconds."""
    return round(math.log(max(seconds, SMALLEST_S)) / WIDTH)


def merged(counts: Iterable[Counter[int]]) -> Counter[int]:
    """Return the sum of some counts."""
    total: Counter[int] = Counter()
    for one in counts:
        for bucket, count in one.items():  # Counter.update does the same, and asks what it was given first
            total[bucket] += count
    return total


def quantile_s(counts: Counter[int], part: float) -> float | None:
    """Return the duration that `part` (0 to 1) of all stay below, within 2.5%; None of none."""
    left = part * sum(counts.values())
    for bucket in sorted(counts):
        left -= counts[bucket]
        if left <= 0:
            return round(math.exp(bucket * WIDTH), 5)
    return None
