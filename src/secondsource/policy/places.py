"""Places kept for those who were sent away: when to come back, and that it is then their turn.

A `Retry-After` that names the time at which the queue will have drained is a lie if a hundred others are told the
same. So each is given a time of its own, one after another at the rate at which its tenant is served, and whoever
comes back then is served before those who come anew. Who comes back is known by a fingerprint of key and request.
How many come back at all is learned of each tenant, by how long they were told to wait, and the times lie as close as
that allows: who sends away an impatient crowd for an hour learns nothing of those whom it sends away for a minute.
"""

from array import array
from enum import Enum, auto
from math import log2
from typing import NamedTuple

from secondsource.policy.fair_queue import Shares
from secondsource.policy.place_table import PlaceTable

EARLY_S = 0.25  # before its time by this much is in time: clocks and networks differ
SHORTEST_GRACE_S = 5.0
GRACE = 0.3  # of the promised wait: how long a place is kept beyond its time
SLACK = 1.15  # times lie this much further apart than they must, so that what goes wrong does not add up
LEARNING = 0.005
FEWEST_SHOW_UP = 0.02
WAITS = 8  # told apart: up to twice this shortest one, up to twice that, and so on
SHORTEST_WAIT_S = 10.0
FEW_FORGOTTEN = 512
FEW_SEEN = 20  # what is expected beforehand counts for so many


class Arrival(Enum):
    """How one who was sent away has come back."""

    NEW = auto()  # no place is kept for it
    EARLY = auto()
    DUE = auto()


class Claim(NamedTuple):
    """What is known of a fingerprint that arrives, and the promised time where there is one."""

    arrival: Arrival
    at: float = 0.0


class _ShowingUp:
    """Which part of a tenant's clients come back when they were told to, by how long they were to wait."""

    __slots__ = ("_part", "_seen")

    def __init__(self) -> None:
        self._part = [1.0] * WAITS
        self._seen = [0] * WAITS

    def part(self, wait: int) -> float:
        """Return the part, or that of the next shorter waits if it is larger.

        Where patience ends within one of the waits told apart, those a little below its end are counted with those
        above it who never come: whoever is told less than they would find too many others there.
        """
        shorter = self._part[wait - 1] if wait and self._seen[wait - 1] >= FEW_SEEN else 0.0
        return max(self._known(wait), shorter)

    def _known(self, wait: int) -> float:
        """Return what was learned; of waits of which nothing is known, that of the next shorter ones."""
        known = (shorter for shorter in range(wait, -1, -1) if self._seen[shorter])
        return self._part[next(known, 0)]

    def note(self, wait: int, *, came: bool) -> None:
        """Note whether one came back."""
        before = self._known(wait)
        self._seen[wait] += 1
        learning = max(LEARNING, 1.0 / (self._seen[wait] + FEW_SEEN))
        self._part[wait] = max(before + learning * (came - before), FEWEST_SHOW_UP)


class _Promise(NamedTuple):
    """What a tenant's line remembers of a place that was promised."""

    fingerprint: int
    until: float
    wait: int  # one of `WAITS`


class _Line:
    """One tenant's promises, in order of time."""

    __slots__ = ("_fingerprints", "_first", "_until", "_waits", "booked_until")

    def __init__(self) -> None:
        self.booked_until = 0.0
        self._fingerprints, self._until, self._waits = array("Q"), array("d"), array("B")
        self._first = 0  # those before it are forgotten

    def __len__(self) -> int:
        return len(self._fingerprints) - self._first

    @property
    def first(self) -> _Promise:
        """The promise whose time is over first."""
        first = self._first
        return _Promise(self._fingerprints[first], self._until[first], self._waits[first])

    def append(self, promise: _Promise) -> None:
        """Add the latest."""
        self._fingerprints.append(promise.fingerprint)
        self._until.append(promise.until)
        self._waits.append(promise.wait)

    def forget_first(self) -> None:
        """Forget the first."""
        self._first += 1
        if self._first >= FEW_FORGOTTEN and 2 * self._first >= len(self._fingerprints):
            del self._fingerprints[: self._first], self._until[: self._first], self._waits[: self._first]
            self._first = 0


class Places:
    """The places of one lane; times are seconds on the caller's clock."""

    __slots__ = ("_count", "_lines", "_shares", "_showing_up", "_table")

    def __init__(self, shares: Shares, table: PlaceTable) -> None:
        self._shares = shares
        self._table = table
        self._lines: dict[str, _Line] = {}
        self._count = 0
        self._showing_up: dict[str, _ShowingUp] = {}  # by tenant; those that were never sent away have none

    def __len__(self) -> int:
        """Return how many were promised and are not over; who came before its time was over counts until then."""
        return self._count

    def booked_until(self, tenant: str) -> float:
        """Return until when the tenant's part of the service is promised already; 0 when none of it is."""
        line = self._lines.get(tenant)
        return line.booked_until if line else 0.0

    def promises(self, tenant: str) -> bool:
        """Return whether anybody of this tenant is promised a time that is not over."""
        return tenant in self._lines

    def passed_s(self, tenant: str, wait_s: float, now: float) -> float:
        """Return how long one who comes anew waits, who would wait so long if nobody were to come who is promised.

        Until all that is promised is over, the promised take all but a little of the tenant's part, and go first.
        """
        booked_s = max(self.booked_until(tenant) - now, 0.0)
        return min(wait_s * SLACK / (SLACK - 1.0), wait_s + booked_s / SLACK)

    def promise(self, tenant: str, fingerprint: int, earliest: float, takes_s: float, now: float) -> float:
        """Return when to come back: not before `earliest`, and after all that were promised before.

        `takes_s`: how long the tenant's part of the service needs for this request. A fingerprint of 0, or one for
        which the table has no room, is told an honest time and kept no place.
        """
        line = self._lines.get(tenant)
        if line is None:
            line = _Line()
        at = max(earliest, line.booked_until)
        until, wait = at + max(SHORTEST_GRACE_S, GRACE * (at - now)), _wait_of(at - now)
        line.booked_until = at + takes_s * self._of(tenant).part(wait) * SLACK
        if fingerprint and self._table.keep(fingerprint, at, until, now):
            line.append(_Promise(fingerprint, until, wait))
            self._count += 1
        if tenant not in self._lines:
            self._lines[tenant] = line
            self._shares.enter(tenant)
        return at

    def shows_up(self, tenant: str, wait_s: float) -> float:
        """Return which part of a tenant's clients come back that were told to wait so long."""
        return self._of(tenant).part(_wait_of(wait_s))

    def claim(self, fingerprint: int, now: float) -> Claim:
        """Return whether a place is kept for this request, by any worker; one that is due is given out, and gone."""
        place = self._table.find(fingerprint) if fingerprint else None
        if place is None or now > place.until:
            return Claim(Arrival.NEW)
        if now < place.at - EARLY_S:
            return Claim(Arrival.EARLY, place.at)
        self._table.take(place)
        return Claim(Arrival.DUE, place.at)

    def sweep(self, now: float) -> None:
        """Forget places whose time is over; to be called every second or so."""
        for tenant in list(self._lines):
            line = self._lines[tenant]
            while line and line.first.until < now:
                promise = line.first
                line.forget_first()
                self._count -= 1
                # Who came is counted when the others are, or those who come would all seem to for a while.
                place = self._table.find_own(promise.fingerprint)
                lapsed = place is not None and place.until == promise.until
                if place is not None and lapsed:
                    self._table.take(place)
                self._of(tenant).note(promise.wait, came=not lapsed)
            if not line and line.booked_until <= now:
                del self._lines[tenant]
                self._shares.leave(tenant)

    def _of(self, tenant: str) -> _ShowingUp:
        found = self._showing_up.get(tenant)
        if found is None:
            found = self._showing_up[tenant] = _ShowingUp()
        return found


def _wait_of(wait_s: float) -> int:
    """Return which of the waits told apart this is."""
    return min(int(log2(max(wait_s / SHORTEST_WAIT_S, 1.0))), WAITS - 1)
