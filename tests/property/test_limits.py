"""Limits hold in every minute and every day, over any number of workers; what is given out is exact."""

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from secondsource.core.fleet import Allowance, Key, Tenant
from secondsource.policy.leases import Coordinator, LeasedMeter
from secondsource.policy.limits import Exceeded, Limits, MeterId, Reservation, Short, Use

SHA = "cd" * 32
LIMIT = 1000
KEYS = [Key(sha256=SHA, tenant="acme", lane="paid", allowance=Allowance(tokens_per_minute=LIMIT))]
TENANTS = [Tenant(name="acme", allowance=Allowance(nano_usd_per_day=50 * LIMIT))]
BEGIN = 86_400.0 * 20_000 - 90.0  # a midnight comes soon

steps = st.lists(
    st.tuples(
        st.floats(0.0, 8.0),  # seconds until then
        st.integers(1, 400),  # reserved
        st.floats(0.0, 1.0),  # the part of it that is used
        st.integers(0, 4),  # which worker
        st.floats(0.0, 20.0),  # seconds until it is settled
    ),
    min_size=1,
    max_size=80,
)


@dataclass
class Worker:
    """A process that shares the budget, or has it alone."""

    coordinator: Coordinator | None
    meters: dict[MeterId, LeasedMeter] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.limits = Limits(KEYS, TENANTS, self.make) if self.coordinator else Limits(KEYS, TENANTS)

    def make(self, meter_id: MeterId, limit: int) -> LeasedMeter:
        self.meters[meter_id] = LeasedMeter(meter_id, limit)
        return self.meters[meter_id]

    def reserve(self, use: Use, now: float) -> Reservation | None:
        found = self.limits.reserve(SHA, "acme", use, now)
        if isinstance(found, Short):
            assert self.coordinator
            for meter_id, _ in found.wants:
                self.meters[meter_id].surrender()
            self.give_back(now)
            for meter_id, least in found.wants:
                self.meters[meter_id].granted(self.coordinator.grant(meter_id, least, now))
            found = self.limits.reserve(SHA, "acme", use, now, asked=True)
            assert not isinstance(found, Short)
        if isinstance(found, Exceeded):
            assert found.resets_in_s >= 0.0
            return None
        return found

    def give_back(self, now: float) -> None:
        for meter in self.meters.values():
            for back in meter.given_back:
                assert self.coordinator
                self.coordinator.take_back(back, now)
            meter.given_back.clear()


def play(script: list[tuple[float, int, float, int, float]], workers: list[Worker]) -> list[tuple[float, int, int]]:
    """Return what was let in: when, what was reserved, and what was used."""
    now = BEGIN
    let_in: list[tuple[float, int, int]] = []
    open_: list[tuple[float, Worker, Reservation, Use]] = []
    for wait, tokens, part, which, lasts in script:
        now += wait
        for ends, worker, reservation, used in sorted(open_, key=lambda one: one[0]):
            if ends <= now:
                worker.limits.settle(reservation, used, now)
                worker.give_back(now)
        open_ = [one for one in open_ if one[0] > now]
        worker = workers[which % len(workers)]
        reservation_ = worker.reserve(Use(tokens, tokens * 7), now)
        if reservation_ is not None:
            used = Use(int(tokens * part), int(tokens * part) * 7)
            let_in.append((now, tokens, used.tokens))
            open_.append((now + lasts, worker, reservation_, used))
    return let_in


def check(let_in: list[tuple[float, int, int]]) -> None:
    for at, _, _ in let_in:
        minute = sum(used for then, _, used in let_in if at - 60.0 < then <= at)
        assert minute <= LIMIT, "more than the limit in a minute"
        day = sum(used * 7 for then, _, used in let_in if then // 86_400.0 == at // 86_400.0)
        assert day <= 50 * LIMIT, "more than the limit in a day"


@given(steps)
def test_one_process_never_lets_in_more_than_the_limit(script: list[tuple[float, int, float, int, float]]) -> None:
    check(play(script, [Worker(None)]))


@given(steps, st.integers(1, 5))
def test_workers_together_never_let_in_more(script: list[tuple[float, int, float, int, float]], count: int) -> None:
    coordinator = Coordinator(KEYS, TENANTS, count)
    check(play(script, [Worker(coordinator) for _ in range(count)]))


@settings(max_examples=20)
@given(st.integers(1, 5), st.integers(1, 20))
def test_two_hundred_at_once_spend_what_there_is_and_no_more(count: int, each: int) -> None:
    coordinator = Coordinator(KEYS, TENANTS, count)
    let_in = play([(0.0, each, 1.0, number, 100.0) for number in range(200)], [Worker(coordinator)] * count)
    check(let_in)
    assert sum(used for _, _, used in let_in) == min(200, LIMIT // each) * each


def test_what_is_given_back_can_be_used_by_another_worker() -> None:
    coordinator = Coordinator(KEYS, TENANTS, 2)
    one, two = Worker(coordinator), Worker(coordinator)
    assert one.reserve(Use(100, 0), BEGIN)  # and holds more than that
    assert two.reserve(Use(LIMIT - 100, 0), BEGIN) is None
    assert one.reserve(Use(LIMIT, 0), BEGIN + 3.0) is None  # asking, it gives back what has run out
    assert two.reserve(Use(LIMIT - 100, 0), BEGIN + 3.0)
    assert coordinator.used(next(iter(one.meters)), BEGIN + 3.0) == LIMIT
