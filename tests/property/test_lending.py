"""Workers that share a replica's slots, in any order of what they begin and end: never more than there are."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from secondsource.policy.replica import PoolState
from tests.fleets import pool
from tests.tally import Tally

STEPS = st.lists(st.tuples(st.sampled_from(["paid", "free", "ends"]), st.integers(0, 3)), max_size=60)


@given(st.integers(1, 4), st.integers(1, 12), STEPS)
def test_the_best_lane_may_have_all_and_nobody_one_twice(
    workers: int, extra: int, steps: list[tuple[str, int]]
) -> None:
    slots, counts = workers + extra, [0] * workers
    replicas = []
    for worker in range(workers):
        (one,) = PoolState(pool("a", max_concurrency=slots), Random(0), worker + 1, workers).replicas
        one.share(Tally(counts, worker))
        replicas.append(one)
    for what, number in steps:
        worker = number % workers
        one = replicas[worker]
        own = one.state.own_slots or 0
        if what == "ends":
            one.in_flight -= one.in_flight > 0
        elif one.has_room(urgent=what == "paid"):
            one.in_flight += 1
            assert what == "paid" or one.in_flight <= own, "a worse lane has slots of others"
        else:
            assert sum(counts) == slots or (what == "free" and one.in_flight >= own), "a free slot was refused"
        counts[worker] = one.in_flight
        assert sum(counts) <= slots
        lent = [other.lent() for other in replicas]
        for other, each in zip(replicas, lent, strict=True):
            free_here = max((other.state.own_slots or 0) - other.in_flight, 0) - each.taken
            assert free_here + each.left == slots - sum(counts), "a free slot is counted twice, or by nobody"
