"""Places kept for those who were sent away: when to come back, and that it is then their turn.

A `Retry-After` that names the time at which the queue will have drained is a lie if a hundred others are told the
same. So each is given a time of its own, one after another at the rate at which its tenant is served, and whoever
comes back then is served before those who come anew. Who comes back is known by a fingerprint of key and request.
How many come back at all is learned, and the times lie as close as that allows.
"""

from collections import deque
from enum import Enum, auto
from typing import NamedTuple

from secondsource.policy.fair_queue import Shares

EARLY_S = 0.25  # before its time by this much is in time: clocks and networks differ
SHORTEST_GRACE_S = 5.0
GRACE = 0.3  # of the promised wait: how long a place is kept beyond its time
SLACK = 1.15  # times lie this much further apart than they must, so that what goes wrong does not add up
LEARNING = 0.005
FEWEST_SHOW_UP = 0.02
MOST_PLACES = 100_000  # some 25 MB


class Arrival(Enum):
    """How one who was sent away has come back."""

    NEW = auto()  # no place is kept for it
    EARLY = auto()
    DUE = auto()


class Claim(NamedTuple):
    """What is known of a fingerprint that arrives, and the promised time where there is one."""

    arrival: Arrival
    at: float = 0.0


class _Place(NamedTuple):
    at: float
    until: float
    fingerprint: int


class _Line:
    """The places of one tenant, in order of time."""

    __slots__ = ("booked_until", "kept")

    def __init__(self) -> None:
        self.booked_until = 0.0
        self.kept: deque[_Place] = deque()


class Places:
    """The places of one lane; times are seconds on the caller's clock."""

    __slots__ = ("_by_fingerprint", "_lines", "_shares", "shows_up")

    def __init__(self, shares: Shares) -> None:
        self._shares = shares
        self._lines: dict[str, _Line] = {}
        self._by_fingerprint: dict[int, _Place] = {}
        self.shows_up = 1.0  # how many of those sent away come back when they were told to

    def __len__(self) -> int:
        return len(self._by_fingerprint)

    def booked_until(self, tenant: str) -> float:
        """Return until when the tenant's part of the service is promised already; 0 when none of it is."""
        line = self._lines.get(tenant)
        return line.booked_until if line else 0.0

    def promise(self, tenant: str, fingerprint: int, earliest: float, takes_s: float, now: float) -> float:
        """Return when to come back: not before `earliest`, and after all that were promised before.

        `takes_s`: how long the tenant's part of the service needs for this request. A fingerprint of 0, or one too
        many, is told an honest time and kept no place.
        """
        line = self._lines.get(tenant)
        if line is None:
            line = _Line()
        at = max(earliest, line.booked_until)
        line.booked_until = at + takes_s * self.shows_up * SLACK
        if fingerprint and len(self._by_fingerprint) < MOST_PLACES:
            place = _Place(at, at + max(SHORTEST_GRACE_S, GRACE * (at - now)), fingerprint)
            line.kept.append(place)
            self._by_fingerprint[fingerprint] = place
        if tenant not in self._lines:
            self._lines[tenant] = line
            self._shares.enter(tenant)
        return at

    def claim(self, fingerprint: int, now: float) -> Claim:
        """Return whether a place is kept for this request; one that is due is given out, and gone."""
        place = self._by_fingerprint.get(fingerprint)
        if place is None or now > place.until:
            return Claim(Arrival.NEW)
        if now < place.at - EARLY_S:
            return Claim(Arrival.EARLY, place.at)
        del self._by_fingerprint[fingerprint]
        self.shows_up += LEARNING * (1.0 - self.shows_up)
        return Claim(Arrival.DUE, place.at)

    def sweep(self, now: float) -> None:
        """Forget places whose time is over; to be called every second or so."""
        for tenant in list(self._lines):
            line = self._lines[tenant]
            while line.kept and (line.kept[0].until < now or not self._is_kept(line.kept[0])):
                self._lapse(line.kept.popleft())
            if not line.kept and line.booked_until <= now:
                del self._lines[tenant]
                self._shares.leave(tenant)

    def _is_kept(self, place: _Place) -> bool:
        return self._by_fingerprint.get(place.fingerprint) is place

    def _lapse(self, place: _Place) -> None:
        if self._is_kept(place):
            del self._by_fingerprint[place.fingerprint]
            self.shows_up = max(self.shows_up * (1.0 - LEARNING), FEWEST_SHOW_UP)
