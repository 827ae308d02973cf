"""A worker's side of shared limits: held slices are spent, more is asked for, what is left goes back."""

from typing import Any

from secondsource.core.fleet import Allowance, Key
from secondsource.gateway.workers.lease_desk import TICKS_BETWEEN_ALL, LeaseDesk
from secondsource.gateway.workers.messages import Slices, Want
from secondsource.policy.leases import Coordinator
from secondsource.policy.limits import Exceeded, Limits, Reservation, Short, Use

LIMIT = 100
KEY = Key(sha256="a" * 64, tenant="acme", lane="default", allowance=Allowance(requests_per_minute=LIMIT))
NOW = 1_000_000.5
NOTHING = Use(0, 0)


class Gateway:
    """A coordinator and its workers; messages arrive when `carry` is called."""

    def __init__(self, workers: int = 2) -> None:
        self.owner = Coordinator((KEY,), (), workers)
        self.there = True
        self.sent: list[tuple[LeaseDesk, Want]] = []
        self.desks = [self._desk() for _ in range(workers)]
        self.limits = [Limits((KEY,), (), desk.make) for desk in self.desks]
        self.let_in = 0
        self.refused = 0

    def _desk(self) -> LeaseDesk:
        def send(want: Want) -> bool:
            self.sent.append((desk, want))
            return self.there

        desk = LeaseDesk(send)
        return desk

    def carry(self, now: float = NOW) -> None:
        sent, self.sent = self.sent, []
        for desk, want in sent:
            for given in want.given_back:
                self.owner.take_back(given, now)
            desk.granted(Slices(number=want.number, slices=[self.owner.grant(*wanted, now) for wanted in want.wants]))

    def ask(self, worker: int, now: float = NOW) -> None:
        """Let one request in, or refuse it, perhaps only once the coordinator has answered."""

        def again() -> None:
            self._count(self.limits[worker].reserve(KEY.sha256, "acme", NOTHING, now, asked=True))

        found = self.limits[worker].reserve(KEY.sha256, "acme", NOTHING, now)
        if isinstance(found, Short):
            self.desks[worker].ask(found.wants, again)
        else:
            self._count(found)

    def _count(self, found: Any) -> None:
        self.let_in += isinstance(found, Reservation)
        self.refused += isinstance(found, Exceeded)


def test_a_flood_on_all_workers_is_let_in_up_to_the_limit() -> None:
    gateway = Gateway(workers=4)
    for number in range(300):
        gateway.ask(number % 4)
        if number % 7 == 0:
            gateway.carry()
    gateway.carry()
    assert gateway.let_in + gateway.refused == 300
    assert LIMIT * 0.9 <= gateway.let_in <= LIMIT


def test_few_requests_wait_for_the_coordinator() -> None:
    gateway, waited = Gateway(), 0
    for number in range(40):
        now = NOW + number / 20
        gateway.ask(0, now)
        waited += gateway.let_in < number + 1
        gateway.carry(now)
        if number % 4 == 3:
            gateway.desks[0].tick(now)
            gateway.carry(now)
    assert gateway.let_in == 40
    assert waited <= 3, "the first, and hardly one more: the rest is asked for ahead"


def test_what_is_not_spent_goes_back() -> None:
    gateway = Gateway()
    gateway.ask(0)
    gateway.carry()
    (meter,) = gateway.limits[0].meters()
    assert gateway.owner.used(meter.id, NOW) > 1
    for second in (5.0, 10.0):  # the first time, more was asked for ahead: the key had been in use
        for _ in range(TICKS_BETWEEN_ALL + 1):
            gateway.desks[0].tick(NOW + second)
        gateway.carry(NOW + second)
    assert gateway.owner.used(meter.id, NOW + 10.0) == 1


def test_nobody_waits_for_a_coordinator_that_is_gone() -> None:
    gateway = Gateway()
    gateway.ask(0)
    gateway.desks[0].lost()
    gateway.there = False
    gateway.ask(1)
    assert (gateway.let_in, gateway.refused) == (0, 2)


def test_a_limit_that_was_taken_away_meanwhile_holds_nobody_up() -> None:
    gateway, answered = Gateway(), []
    (meter,) = gateway.limits[0].meters()
    gateway.desks[0].ask([(meter.id, 1)], lambda: answered.append(True))
    ((_, want),) = gateway.sent
    gateway.desks[0].granted(Slices(number=want.number, slices=[]))
    assert answered == [True]
