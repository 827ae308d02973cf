"""Which lane a request goes into: its key's own, or a worse one that it asks for; never a better one.

`service_tier` is OpenAI's field: "flex" asks for the worst lane, every other tier for the key's own. `priority` is
vLLM's field, where a smaller number is served first: it is compared with the lanes' own priorities.
"""

from collections.abc import Sequence

from secondsource.core.fleet import Lane

WORST = "flex"
KNOWN_TIERS = frozenset({"auto", "default", "scale", "priority", WORST})


class Lanes:
    """The lanes of a fleet, best first; lanes of equal priority stay in the order of the file."""

    __slots__ = ("_place", "ordered")

    def __init__(self, lanes: Sequence[Lane]) -> None:
        self.ordered: tuple[Lane, ...] = tuple(sorted(lanes, key=lambda lane: lane.priority))
        self._place = {lane.name: place for place, lane in enumerate(self.ordered)}

    def lane_for(self, own: str, service_tier: str | None = None, priority: int | None = None) -> Lane:
        """Return the lane of a request whose key is of the lane `own`; an unknown tier asks for nothing."""
        place = self._place[own]
        if service_tier == WORST:
            return self.ordered[-1]
        if priority is None:
            return self.ordered[place]
        while place + 1 < len(self.ordered) and self.ordered[place + 1].priority <= priority:
            place += 1
        return self.ordered[place]
