"""Which suppliers may have the next attempt, so that none gets more than its share of the spend.

A cap holds in every window because it is held in every short stretch of the window too: what leaves the window at its
far end then never tips the rest. One attempt is the least that can be given, so caps are held to within one attempt.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from secondsource.core.fleet import Cap, Supplier
from secondsource.policy.usage_window import UsageWindow

SLOTS = 60  # of a window
STRETCH_SLOTS = 4  # short stretches: a fifteenth of the window


class Booked(NamedTuple):
    """What was counted for one attempt, and in which slots of which windows, for `settle`."""

    nano_usd: int
    marks: tuple[tuple[UsageWindow, int], ...]


class Verdict(NamedTuple):
    """Who may have the attempt; `breach` where serving won over the cap of all of them."""

    suppliers: frozenset[str]
    breach: bool = False


class _Capped:
    """One capped supplier's spend and everybody's, over its window and over a short stretch of it."""

    __slots__ = ("cap", "max_share", "own", "whole", "window_s")

    def __init__(self, supplier: Supplier, max_share: float) -> None:
        self.cap = supplier.cap
        self.max_share = max_share
        self.window_s = supplier.share_window_s
        slot_s = supplier.share_window_s / SLOTS
        self.own = (UsageWindow(slot_s, SLOTS), UsageWindow(slot_s, STRETCH_SLOTS))
        self.whole = (UsageWindow(slot_s, SLOTS), UsageWindow(slot_s, STRETCH_SLOTS))

    def advance(self, now: float) -> None:
        for window in (*self.own, *self.whole):
            window.advance(now)

    def allows(self, nano_usd: int) -> bool:
        own, whole = self.own[0].total + nano_usd, self.whole[0].total + nano_usd
        if own > self.max_share * whole:
            return False
        own, whole = self.own[1].total + nano_usd, self.whole[1].total + nano_usd
        return own <= self.max_share * whole + nano_usd

    def fullness(self, nano_usd: int) -> float:
        return (self.own[0].total + nano_usd) / max(self.max_share, 1e-9)


class SupplierShares:
    """The spend by supplier in sliding windows; times are seconds on the caller's clock, money is nano-dollars."""

    __slots__ = ("_capped",)

    def __init__(self, suppliers: Iterable[Supplier]) -> None:
        self._capped = {one.name: _Capped(one, one.max_share) for one in suppliers if one.max_share is not None}

    @property
    def any(self) -> bool:
        """Whether any supplier has a cap."""
        return bool(self._capped)

    def capped(self) -> tuple[str, ...]:
        """Return the suppliers that have a cap."""
        return tuple(self._capped)

    def reload(self, suppliers: Iterable[Supplier]) -> None:
        """Take the caps as they are now; the spend of a supplier whose window stays is kept."""
        kept, self._capped = self._capped, {}
        for one in suppliers:
            if one.max_share is None:
                continue
            capped = kept.get(one.name)
            if capped is None or capped.window_s != one.share_window_s:
                capped = _Capped(one, one.max_share)
            capped.cap, capped.max_share = one.cap, one.max_share
            self._capped[one.name] = capped

    def may_have(self, having_room: Sequence[str], nano_usd: int, now: float) -> Verdict:
        """Return which of the suppliers that have room may have an attempt of about this cost.

        None of them where all that have room are at a hard cap.
        """
        if not self._capped:
            return Verdict(frozenset(having_room))
        names = dict.fromkeys(having_room)
        within = []
        for name in names:
            capped = self._capped.get(name)
            if capped is not None:
                capped.advance(now)
            if capped is None or capped.allows(nano_usd):
                within.append(name)
        if within or not names:
            return Verdict(frozenset(within))
        states = {name: self._capped[name] for name in names}
        emptiest = min(states, key=lambda name: states[name].fullness(nano_usd))
        if sum(state.max_share for state in states.values()) >= 1.0:
            return Verdict(frozenset({emptiest}))  # the caps can be held: this one goes over by this attempt at most
        soft = [name for name in states if states[name].cap is Cap.SOFT]
        if not soft:
            return Verdict(frozenset())
        return Verdict(frozenset({min(soft, key=lambda name: states[name].fullness(nano_usd))}), breach=True)

    def book(self, supplier: str, nano_usd: int, now: float) -> Booked:
        """Count an attempt's expected cost as it is sent."""
        marks: list[tuple[UsageWindow, int]] = []
        for name, capped in self._capped.items():
            windows = (*capped.whole, *capped.own) if name == supplier else capped.whole
            marks += [(window, window.add(nano_usd, now)) for window in windows]
        return Booked(nano_usd, tuple(marks))

    def settle(self, booked: Booked, nano_usd: int, now: float) -> None:
        """Replace an attempt's expected cost with what it was."""
        difference = nano_usd - booked.nano_usd
        if difference:
            for window, mark in booked.marks:
                window.amend(mark, difference, now)

    def share(self, supplier: str, now: float) -> float:
        """Return a capped supplier's share of the spend in its window, for the metric."""
        capped = self._capped[supplier]
        capped.advance(now)
        return capped.own[0].total / max(capped.whole[0].total, 1)

    def is_hard(self, supplier: str) -> bool:
        """Return whether the supplier has a cap that wins over serving."""
        capped = self._capped.get(supplier)
        return capped is not None and capped.cap is Cap.HARD

    def at_cap(self, supplier: str, nano_usd: int, now: float) -> bool:
        """Return whether a capped supplier may have no attempt of this cost while another has room."""
        capped = self._capped[supplier]
        capped.advance(now)
        return not capped.allows(nano_usd)
