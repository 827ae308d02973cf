"""The busy time of a replica that several workers ask: shared among all their attempts, and paid for once."""

from random import Random

import pytest

from secondsource.policy.accounting import SharedClock
from tests.tally import Tally

MILLISECOND_NS = 1_000_000
TICK_NS = 50 * MILLISECOND_NS


def clocks(workers: int) -> list[SharedClock]:
    counts = [0] * workers
    return [SharedClock(Tally(counts, worker)) for worker in range(workers)]


def test_alone_it_is_as_with_one_process() -> None:
    (clock,) = clocks(1)
    one, two = clock.enter(0), clock.enter(1000)
    assert clock.so_far(3000, one) == 2000
    assert clock.leave(3000, two) == 1000
    assert clock.leave(4000, one) == 3000


def test_two_workers_attempts_bear_half_each() -> None:
    a, b = clocks(2)
    mark_a, mark_b = a.enter(0), b.enter(0)
    for now in range(TICK_NS, 20 * TICK_NS, TICK_NS):
        a.tick(now)
        b.tick(now)
    shares = a.leave(20 * TICK_NS, mark_a), b.leave(20 * TICK_NS, mark_b)
    assert sum(shares) == pytest.approx(20 * TICK_NS, rel=0.03)
    assert shares[0] == pytest.approx(10 * TICK_NS, rel=0.05)


@pytest.mark.parametrize("seed", range(5))
def test_all_shares_add_up_to_the_busy_time_about(seed: int) -> None:
    random, workers = Random(seed), clocks(4)
    running: list[tuple[int, int]] = []
    busy = shares = 0
    for now in range(0, 60_000 * MILLISECOND_NS, 10 * MILLISECOND_NS):
        if now % TICK_NS == 0:
            for clock in workers:
                clock.tick(now)
        if random.random() < 0.05:
            worker = random.randrange(4)
            running.append((worker, workers[worker].enter(now)))
        if running and random.random() < 0.05:
            worker, mark = running.pop(random.randrange(len(running)))
            shares += workers[worker].leave(now, mark)
        busy += 10 * MILLISECOND_NS if running else 0
    shares += sum(workers[worker].leave(60_000 * MILLISECOND_NS, mark) for worker, mark in running)
    assert shares == pytest.approx(busy, rel=0.03)
