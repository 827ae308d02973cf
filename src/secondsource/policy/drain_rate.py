"""How fast work is asked for, and how fast it is done while more of it waits.

Work is in slot-seconds as estimated beforehand; what the estimates get wrong comes out in the measured rate.
"""

from math import exp

DRAIN_MEMORY_S = 10.0
PRIOR_S = 1.0  # how many seconds of measurement the expected rate counts for
DEMAND_MEMORY_S = 20.0


class DrainRate:
    """Work per second taken up while there was more than could be taken; idle time says nothing."""

    __slots__ = ("_last", "_prior_s", "_saturated", "_time", "_work", "expected")

    def __init__(self, expected: float, now: float) -> None:
        self.expected = expected  # by the profile, before anything was measured: as many slots as there are
        self._prior_s = PRIOR_S
        self._work = 0.0
        self._time = 0.0
        self._last = now
        self._saturated = False

    def note(self, work: float, now: float, *, more_waits: bool) -> None:
        """Count work taken up now (0 for a mere look), and whether more of it waits from now on."""
        if self._saturated:
            kept = exp((self._last - now) / DRAIN_MEMORY_S)
            self._time = self._time * kept + DRAIN_MEMORY_S * (1.0 - kept)
            self._work = self._work * kept + work
            self._prior_s *= kept  # slots that are kept free drain nothing: what was measured says it better
        self._last = now
        self._saturated = more_waits

    @property
    def per_s(self) -> float:
        """Work per second."""
        return (self._work + self.expected * self._prior_s) / (self._time + self._prior_s)


class Demand:
    """Work per second asked for of late."""

    __slots__ = ("_began", "_last", "_work")

    def __init__(self, now: float) -> None:
        self._began = now
        self._last = now
        self._work = 0.0

    def note(self, work: float, now: float) -> None:
        """Count work asked for now."""
        self._work = self._work * exp((self._last - now) / DEMAND_MEMORY_S) + work
        self._last = now

    def per_s(self, now: float) -> float:
        """Return work per second at `now`; over a short life, as far as it has been seen."""
        seen = DEMAND_MEMORY_S * (1.0 - exp((self._began - now) / DEMAND_MEMORY_S))
        return self._work * exp((self._last - now) / DEMAND_MEMORY_S) / max(seen, 1.0)
