"""Whoever is due is called, whatever was set meanwhile, and nobody else is."""

import math
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from secondsource.gateway.deadlines import Deadlines


@dataclass
class Timed:
    deadline: float = math.inf


TIMES = st.one_of(st.integers(0, 20).map(float), st.just(math.inf))


@given(st.lists(st.tuples(st.integers(0, 4), TIMES, st.booleans()), max_size=60))
def test_asked_as_time_goes_by_it_tells_of_exactly_those_that_are_due(steps: list[tuple[int, float, bool]]) -> None:
    deadlines, exchanges, now = Deadlines(), [Timed() for _ in range(5)], 0.0
    for number, deadline, later in steps:
        exchanges[number].deadline = deadline
        deadlines.set(deadline)
        now += later
        due = deadlines.due(exchanges, now)
        assert due == [one for one in exchanges if one.deadline <= now]
        for one in due:
            one.deadline = math.inf
