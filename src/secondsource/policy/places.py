"""Places kept for those who were sent away: when to come back, and that it is then their turn.

A `Retry-After` that names the time at which the queue will have drained is a lie if a hundred others are told the
same. So each is given a time of its own, one after another at the rate at which its tenant is served, and whoever
comes back then is served before those who come anew. Who comes back is known by a fingerprint of key and request.
How many come back at all is learned, and the times lie as close as that allows.
"""

from array import array
from enum import Enum, auto
from typing import NamedTuple

from secondsource.policy.fair_queue import Shares
from secondsource.policy.place_table import Kept, PlaceTable

EARLY_S = 0.25  # before its time by this much is in time: clocks and networks differ
SHORTEST_GRACE_S = 5.0
GRACE = 0.3  # of the promised wait: how long a place is kept beyond its time
SLACK = 1.15  # times lie this much further apart than they must, so that what goes wrong does not add up
LEARNING = 0.005
FEWEST_SHOW_UP = 0.02
FEW_FORGOTTEN = 512


class Arrival(Enum):
    """How one who was sent away has come back."""

    NEW = auto()  # no place is kept for it
    EARLY = auto()
    DUE = auto()


class Claim(NamedTuple):
    """What is known of a fingerprint that arrives, and the promised time where there is one."""

    arrival: Arrival
    at: float = 0.0


class _Line:
    """The fingerprints of one tenant's places, in order of time."""

    __slots__ = ("_fingerprints", "_first", "booked_until")

    def __init__(self) -> None:
        self.booked_until = 0.0
        self._fingerprints = array("Q")
        self._first = 0  # those before it are forgotten

    def __len__(self) -> int:
        return len(self._fingerprints) - self._first

    @property
    def first(self) -> int:
        """The fingerprint whose time is over first."""
        return self._fingerprints[self._first]

    def append(self, fingerprint: int) -> None:
        """Add the latest."""
        self._fingerprints.append(fingerprint)

    def forget_first(self) -> None:
        """Forget the first."""
        self._first += 1
        if self._first >= FEW_FORGOTTEN and 2 * self._first >= len(self._fingerprints):
            del self._fingerprints[: self._first]
            self._first = 0


class Places:
    """The places of one lane; times are seconds on the caller's clock."""

    __slots__ = ("_count", "_lines", "_shares", "_table", "shows_up")

    def __init__(self, shares: Shares, table: PlaceTable) -> None:
        self._shares = shares
        self._table = table
        self._lines: dict[str, _Line] = {}
        self._count = 0
        self.shows_up = 1.0  # how many of those sent away come back when they were told to

    def __len__(self) -> int:
        """Return how many were promised and are not over; who came before its time was over counts until then."""
        return self._count

    def booked_until(self, tenant: str) -> float:
        """Return until when the tenant's part of the service is promised already; 0 when none of it is."""
        line = self._lines.get(tenant)
        return line.booked_until if line else 0.0

    def promise(self, tenant: str, fingerprint: int, earliest: float, takes_s: float, now: float) -> float:
        """Return when to come back: not before `earliest`, and after all that were promised before.

        `takes_s`: how long the tenant's part of the service needs for this request. A fingerprint of 0, or one for
        which the table has no room, is told an honest time and kept no place.
        """
        line = self._lines.get(tenant)
        if line is None:
            line = _Line()
        at = max(earliest, line.booked_until)
        line.booked_until = at + takes_s * self.shows_up * SLACK
        until = at + max(SHORTEST_GRACE_S, GRACE * (at - now))
        if fingerprint and self._table.keep(fingerprint, at, until, now):
            line.append(fingerprint)
            self._count += 1
        if tenant not in self._lines:
            self._lines[tenant] = line
            self._shares.enter(tenant)
        return at

    def claim(self, fingerprint: int, now: float) -> Claim:
        """Return whether a place is kept for this request, by any worker; one that is due is given out, and gone."""
        place = self._table.find(fingerprint) if fingerprint else None
        if place is None or now > place.until:
            return Claim(Arrival.NEW)
        if now < place.at - EARLY_S:
            return Claim(Arrival.EARLY, place.at)
        self._table.take(place)
        self.shows_up += LEARNING * (1.0 - self.shows_up)
        return Claim(Arrival.DUE, place.at)

    def sweep(self, now: float) -> None:
        """Forget places whose time is over; to be called every second or so."""
        for tenant in list(self._lines):
            line = self._lines[tenant]
            while line:
                place = self._table.find_own(line.first)
                if place is not None and place.until >= now:
                    break
                line.forget_first()
                self._count -= 1
                if place is not None:
                    self._lapse(place)
            if not line and line.booked_until <= now:
                del self._lines[tenant]
                self._shares.leave(tenant)

    def _lapse(self, place: Kept) -> None:
        self._table.take(place)
        self.shows_up = max(self.shows_up * (1.0 - LEARNING), FEWEST_SHOW_UP)
