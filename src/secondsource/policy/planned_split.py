"""Hold the split of work to the plan's weights: whoever is furthest behind its part is next.

Weights are parts of the work, as a plan gives them. What a pool could not take while it was away or full is not
made up for later: the past fades, so that a pool that returns is not flooded.
"""

from collections.abc import Iterable, Mapping
from math import exp


class PlannedSplit:
    """The work that each of several pools has had of late; times are seconds, work is in any one unit."""

    __slots__ = ("_done", "_last", "_memory_s", "_weights")

    def __init__(self, weights: Mapping[str, float], memory_s: float = 600.0) -> None:
        total = sum(weights.values())
        self._weights = {name: weight / total for name, weight in weights.items()}
        self._done = dict.fromkeys(weights, 0.0)
        self._memory_s = memory_s
        self._last = 0.0

    def choose(self, names: Iterable[str], work: float, now: float) -> str:
        """Return who of `names` (at least one) is to have this work, and count it as theirs."""
        self._fade(now)
        total = sum(self._done.values()) + work
        chosen = max(names, key=lambda name: self._weights[name] * total - self._done[name])
        self._done[chosen] += work
        return chosen

    def parts(self, now: float) -> dict[str, float]:
        """Return the part of the work of late that each has had."""
        self._fade(now)
        total = sum(self._done.values()) or 1.0
        return {name: done / total for name, done in self._done.items()}

    def _fade(self, now: float) -> None:
        if now > self._last:
            kept = exp((self._last - now) / self._memory_s)
            self._last = now
            for name in self._done:
                self._done[name] *= kept
