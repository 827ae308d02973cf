"""Which exchanges are due: asked often, so it looks at them one by one only when one of them may be."""

import math
from collections.abc import Collection
from typing import Protocol, TypeVar


class Timed(Protocol):
    """What is to be called at its deadline (monotonic seconds)."""

    deadline: float


Waiting = TypeVar("Waiting", bound=Timed)


class Deadlines:
    """Owns the earliest time at which any exchange can be due; it may be earlier than all of them, and never later."""

    __slots__ = ("_soonest",)

    def __init__(self) -> None:
        self._soonest = math.inf

    def set(self, deadline: float) -> None:
        """Note that an exchange has this deadline now."""
        if deadline < self._soonest:  # noqa: PLR1730 -- asked with every event, most of which change nothing
            self._soonest = deadline

    def due(self, exchanges: Collection[Waiting], now: float) -> list[Waiting]:
        """Return those of all exchanges whose deadline has passed."""
        if now < self._soonest:
            return []
        self._soonest = min((one.deadline for one in exchanges), default=math.inf)
        return [one for one in exchanges if one.deadline <= now] if self._soonest <= now else []
