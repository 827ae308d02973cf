"""One budget over many workers: a coordinator counts slices as used when it grants them, and workers spend those.

A worker asks once a second or so for what its requests need and some more; what it has not spent when its slice runs
out goes back. A worker that dies takes its slices with it, so a limit may be held more tightly, and never less.
"""

from collections.abc import Iterable
from typing import NamedTuple

from secondsource.core.fleet import Key, Tenant
from secondsource.policy.limits import DAY_S, LEASE_SLOTS, MeterId, PastUse, WindowMeter, allowances, replay

SLICES = 4  # each worker may hold this part of its share of what is left: 1/4


class Slice(NamedTuple):
    """A part of a limit that one worker may spend until `expires`; an amount of 0 says that there is none."""

    id: MeterId
    amount: int
    mark: int  # where the coordinator counts it
    expires: float
    remaining: int  # of the whole limit
    free_at: float  # when what was asked for can be had


class GivenBack(NamedTuple):
    """What a worker did not spend of a slice; below 0 what it spent beyond."""

    id: MeterId
    mark: int
    amount: int


class Coordinator:
    """The one owner of all limits; times are seconds since 1970."""

    __slots__ = ("_meters", "_workers")

    def __init__(self, keys: Iterable[Key], tenants: Iterable[Tenant], workers: int) -> None:
        self._meters: dict[MeterId, WindowMeter] = {}
        self._workers = workers
        self.reload(keys, tenants)

    def reload(self, keys: Iterable[Key], tenants: Iterable[Tenant]) -> None:
        """Hold these keys and tenants to what they may use now; what was used of a limit that stays is kept."""
        kept = self._meters
        said = [pair for key in keys for pair in allowances("key", key.sha256, key.allowance)]
        said += [pair for one in tenants for pair in allowances("tenant", one.name, one.allowance)]
        self._meters = {}
        for meter_id, limit in said:
            self._meters[meter_id] = meter = kept.get(meter_id) or WindowMeter(meter_id, limit, LEASE_SLOTS)
            meter.limit = limit

    def knows(self, meter_id: MeterId) -> bool:
        """Return whether there is such a limit; a worker may ask for one that has just been taken away."""
        return meter_id in self._meters

    def replay(self, past: Iterable[PastUse]) -> None:
        """Count what was used before the start; see `limits.replay`."""
        replay(self._meters.values(), past)

    def grant(self, meter_id: MeterId, least: int, now: float) -> Slice:
        """Grant a slice of at least `least`, or of 0 where that much is not left."""
        meter = self._meters[meter_id]
        room = meter.room(now)
        if room < least:
            return Slice(meter_id, 0, 0, now, meter.remaining(now), meter.free_at(least, now))
        amount = max(least, room // (SLICES * self._workers))
        mark = meter.add(amount, now)
        expires = float(int(now) + LEASE_SLOTS)
        if meter_id.per == "day":  # no slice of today's is spent tomorrow
            expires = min(expires, (now // DAY_S + 1.0) * DAY_S)
        return Slice(meter_id, amount, mark, expires, meter.remaining(now), now)

    def take_back(self, given: GivenBack, now: float) -> None:
        """Count what a worker gave back as unused, and what it spent beyond its slice as used."""
        if given.mark:
            self._meters[given.id].amend(given.mark, -given.amount, now)
        else:  # nothing had been reserved
            self._meters[given.id].add(-given.amount, now)

    def used(self, meter_id: MeterId, now: float) -> int:
        """Return what is counted as used of a limit."""
        meter = self._meters[meter_id]
        return meter.limit - meter.room(now)


class LeasedMeter:
    """A worker's part of one limit: the slices it holds."""

    __slots__ = ("_free_at", "_held", "_remaining", "given_back", "id", "limit", "spends")

    def __init__(self, meter_id: MeterId, limit: int) -> None:
        self.id = meter_id
        self.limit = limit
        self.given_back: list[GivenBack] = []  # for the coordinator; to be sent and cleared
        self.spends = 0  # how often something was spent
        self._held: dict[int, tuple[int, float]] = {}  # unspent amount and end of each slice, by its mark
        self._remaining = limit
        self._free_at = 0.0  # nothing can be had from the coordinator before this

    def granted(self, slice_: Slice) -> None:
        """Take a slice in, or the news that there is none."""
        self._remaining = slice_.remaining
        self._free_at = slice_.free_at
        if slice_.amount:
            amount, _ = self._held.get(slice_.mark, (0, 0.0))
            self._held[slice_.mark] = (amount + slice_.amount, slice_.expires)

    def surrender(self) -> None:
        """Give back all that is held: before asking for more, lest crumbs lie about that are enough together."""
        self.given_back += [GivenBack(self.id, mark, amount) for mark, (amount, _) in self._held.items() if amount]
        self._held.clear()

    def room(self, now: float) -> int:
        """Return the most that one request may spend now: of one slice, for a reservation is counted in one place."""
        self._expire(now)
        return max((amount for amount, _ in self._held.values()), default=0)

    def add(self, amount: int, now: float) -> int:
        """Spend from the largest slice; returns its mark, or 0 where nothing is held and nothing spent."""
        if not self._held and not amount:
            return 0
        self.spends += 1
        mark = max(self._held, key=lambda each: self._held[each][0])
        unspent, expires = self._held[mark]
        self._held[mark] = (unspent - amount, expires)
        return mark

    def amend(self, mark: int, difference: int, now: float) -> None:
        """Correct what was spent: into the slice while it is held, else at the coordinator."""
        self._expire(now)
        if mark in self._held and difference < 0:
            unspent, expires = self._held[mark]
            self._held[mark] = (unspent - difference, expires)
        else:
            self.given_back.append(GivenBack(self.id, mark, -difference))

    def lasting(self, until: float) -> int:
        """Return the most that one request may still spend at that time of what is held now."""
        return max((amount for amount, expires in self._held.values() if expires > until), default=0)

    def free_at(self, amount: int, now: float) -> float:
        """Return when to ask again."""
        return max(self._free_at, now)

    def remaining(self, now: float) -> int:
        """Return what is left of the whole limit, as of the last grant."""
        return max(self._remaining + sum(amount for amount, _ in self._held.values()), 0)

    def may_be_had(self, amount: int) -> bool:
        """Return whether to ask the coordinator; it is asked again even where it had none, for others give back."""
        return amount <= self.limit

    def _expire(self, now: float) -> None:
        for mark in [mark for mark, (_, expires) in self._held.items() if expires <= now]:
            unspent, _ = self._held.pop(mark)
            if unspent:
                self.given_back.append(GivenBack(self.id, mark, unspent))
