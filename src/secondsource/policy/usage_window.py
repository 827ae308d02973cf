"""What was used in a window that slides, in whole numbers: sums of short slots that are forgotten one by one."""


class UsageWindow:
    """Usage over the last `slots` slots of `slot_s` seconds, the running one among them; times are seconds."""

    __slots__ = ("_newest", "_slot_s", "_slots", "_sums", "total")

    def __init__(self, slot_s: float, slots: int) -> None:
        self._slot_s = slot_s
        self._slots = slots
        self._sums: dict[int, int] = {}  # by slot since the epoch, oldest first
        self._newest = 0
        self.total = 0

    def advance(self, now: float) -> int:
        """Forget what has left the window; returns the running slot. Time that runs backwards stands still."""
        slot = int(now // self._slot_s)
        if slot <= self._newest:
            return self._newest
        self._newest = slot
        oldest = slot - self._slots + 1
        while self._sums and (first := next(iter(self._sums))) < oldest:
            self.total -= self._sums.pop(first)
        return slot

    def add(self, amount: int, now: float) -> int:
        """Count usage now; returns its slot, for `amend`."""
        slot = self.advance(now)
        self._sums[slot] = self._sums.get(slot, 0) + amount
        self.total += amount
        return slot

    def amend(self, slot: int, difference: int, now: float) -> None:
        """Correct what was counted in a slot; one that has left the window no longer matters."""
        self.advance(now)
        if slot in self._sums:
            self._sums[slot] += difference
            self.total += difference

    def frees_at(self, amount: int) -> float:
        """Return when at least `amount` of what is counted now will have left the window."""
        freed = 0
        for slot, used in self._sums.items():
            freed += used
            if freed >= amount:
                return (slot + self._slots) * self._slot_s
        return (self._newest + self._slots) * self._slot_s
