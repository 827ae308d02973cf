"""A replica's slots where several workers ask it: each has its part, and the best lane what others leave free."""

from random import Random

import pytest

from secondsource.policy.replica import Lent, PoolState, Replica
from tests.fleets import pool
from tests.tally import Tally


def replica(slots: int | None, tally: Tally, worker: int = 1, workers: int = 2) -> Replica:
    (one,) = PoolState(pool("a", max_concurrency=slots), Random(0), worker, workers).replicas
    one.share(tally)
    return one


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_the_parts_of_the_workers_are_all_slots(workers: int) -> None:
    states = [PoolState(pool("a", max_concurrency=17), Random(0), worker + 1, workers) for worker in range(workers)]
    parts = [state.own_slots or 0 for state in states]
    assert sum(parts) == 17
    assert max(parts) - min(parts) <= 1
    assert [state.replicas[0].limit for state in states] == parts
    assert PoolState(pool("a"), Random(0), 1, workers).own_slots is None


def test_the_best_lane_may_have_what_others_leave_free() -> None:
    one = replica(8, Tally([0, 1], 0))
    one.in_flight = 4
    assert not one.has_room()
    assert one.has_room(urgent=True)
    assert one.lent() == Lent(taken=0, left=3)
    one.in_flight = 7
    assert not one.has_room(urgent=True), "the eight are taken"
    assert one.lent() == Lent(0, 0)


def test_what_others_have_of_the_own_part_is_gone_for_all_lanes() -> None:
    one = replica(8, Tally([0, 6], 0))
    one.in_flight = 1
    assert one.has_room()
    assert one.lent() == Lent(taken=2, left=0)
    one.in_flight = 2
    assert not one.has_room()
    assert not one.has_room(urgent=True)


def test_a_replica_that_bears_less_than_it_may_lends_nothing() -> None:
    one = replica(8, Tally([0, 0], 0))
    one.throttled(0.0)
    one.in_flight = int(one.limit)
    assert one.limit < 4
    assert not one.has_room(urgent=True)
    assert one.lent() == Lent(0, 0)


def test_nothing_is_lent_where_nothing_is_bounded() -> None:
    one = replica(None, Tally([0, 1_000], 0))
    assert one.has_room()
    assert one.lent() == Lent(0, 0)


def test_another_bound_is_divided_again() -> None:
    one = replica(8, Tally([0, 0], 0), worker=2, workers=3)
    assert one.limit == 3
    one.state.reload(pool("a", max_concurrency=16), Random(0))
    assert one.limit == 5
    one.in_flight = 15
    assert one.has_room(urgent=True)
    one.in_flight = 16
    assert not one.has_room(urgent=True)


def test_a_claim_is_told_before_anything_is_sent() -> None:
    counts = [0, 3]
    one = replica(8, Tally(counts, 0))
    one.in_flight = 4
    assert one.claim()
    assert counts == [5, 3]
    counts[1] = 4
    assert not one.claim(), "the eight are taken"
    assert counts == [4, 4], "what it has it still has"
    one.in_flight = 3
    assert one.claim()
    one.forgo()
    assert counts == [3, 4]


def test_of_two_that_take_the_last_slot_at_once_one_has_it() -> None:
    counts, won = [3, 4], list[bool]()

    class Racing(Tally):
        """The first worker's number; the second takes a slot, too, before the first one looks."""

        def write(self, count: int) -> None:
            super().write(count)
            if not won:
                won.append(second.claim())

    first, second = replica(8, Racing(counts, 0)), replica(8, Tally(counts, 1), worker=2)
    first.in_flight, second.in_flight = counts
    assert first.has_room(urgent=True)
    assert second.has_room(urgent=True)
    assert (first.claim(), won) == (True, [False]), "the first has said so before the second looked"
    assert counts == [4, 4]
