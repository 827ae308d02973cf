"""A worker's side of limits that all workers share: what it holds, asks for, and gives back.

A request that finds enough here waits for nobody. What is asked for often is asked for ahead of need, so that a round
trip is only made for the first request in a while, and at the edge of a limit.
"""

from collections.abc import Callable, Iterable, Sequence

from secondsource.gateway.workers.messages import Slices, Want
from secondsource.policy.leases import GivenBack, LeasedMeter
from secondsource.policy.limits import Meter, MeterId

AHEAD_S = 0.6  # a slice that ends before this is as good as gone
TICK_S = 0.2
TICKS_BETWEEN_ALL = 5  # every meter is looked at for what it gives back; those in use at each tick
TICKS_UNUSED = 10  # after which nothing is asked for ahead


class _InUse:
    """A meter of which something was asked for lately."""

    __slots__ = ("least", "meter", "spends", "unused")

    def __init__(self, meter: LeasedMeter) -> None:
        self.meter = meter
        self.least = 0
        self.spends = 0
        self.unused = 0


class LeaseDesk:
    """Knows a worker's leased meters; `send` returns whether the coordinator is there."""

    def __init__(self, send: Callable[[Want], bool]) -> None:
        self._send = send
        self._meters: dict[MeterId, LeasedMeter] = {}
        self._in_use: dict[MeterId, _InUse] = {}
        self._waiting: dict[int, Callable[[], None]] = {}
        self._number = 0
        self._ticks = 0

    def make(self, meter_id: MeterId, limit: int) -> Meter:
        """Return the meter of a limit, of which nothing is held yet."""
        self._meters[meter_id] = meter = LeasedMeter(meter_id, limit)
        return meter

    def ask(self, wants: Sequence[tuple[MeterId, int]], then: Callable[[], None]) -> None:
        """Ask for at least so much; calls `then` once there is an answer, or nobody to ask."""
        for meter_id, least in wants:
            self._meters[meter_id].surrender()
            used = self._in_use.setdefault(meter_id, _InUse(self._meters[meter_id]))
            used.least, used.unused = least, 0
        self._number += 1
        self._waiting[self._number] = then
        given_back = _taken(self._meters[meter_id] for meter_id, _ in wants)
        if not self._send(Want(number=self._number, given_back=given_back, wants=list(wants))):
            del self._waiting[self._number]
            then()

    def granted(self, answer: Slices) -> None:
        """Take what was granted, and let the request that waits for it go on."""
        for one in answer.slices:
            meter = self._meters.get(one.id)
            if meter is not None:
                meter.granted(one)
        then = self._waiting.pop(answer.number, None)
        if then is not None:
            then()

    def lost(self) -> None:
        """Let everybody who waits go on: nobody will answer."""
        waiting, self._waiting = self._waiting, {}
        for then in waiting.values():
            then()

    def tick(self, now: float) -> None:
        """Give back, and ask ahead; `now` in seconds since 1970."""
        self._ticks += 1
        wants = []
        for meter_id, used in list(self._in_use.items()):
            meter = used.meter
            used.unused = 0 if meter.spends != used.spends else used.unused + 1
            used.spends = meter.spends
            if used.unused > TICKS_UNUSED:
                del self._in_use[meter_id]
            elif used.unused == 0 and meter.lasting(now + AHEAD_S) < 2 * used.least:
                wants.append((meter_id, used.least))
        every = self._ticks % TICKS_BETWEEN_ALL == 0
        meters = list(self._meters.values()) if every else [used.meter for used in self._in_use.values()]
        for meter in meters:
            meter.room(now)  # what has run out is given back, though nobody asks for it any more
        given_back = _taken(meters)
        if wants or given_back:
            self._number += 1
            self._send(Want(number=self._number, given_back=given_back, wants=wants))


def _taken(meters: Iterable[LeasedMeter]) -> list[GivenBack]:
    taken: list[GivenBack] = []
    for meter in meters:
        if meter.given_back:
            taken += meter.given_back
            meter.given_back = []
    return taken
