"""What each of several workers may have: the parts are the whole, and everybody has one."""

import pytest

from secondsource.core.errors import InputError
from secondsource.core.fleet import Lane
from secondsource.core.fleet_checks import require_consistent
from secondsource.policy.worker_share import share_of
from tests.fleets import fleet, pool


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_the_parts_are_the_whole(workers: int) -> None:
    whole = fleet(pool("a", max_concurrency=17), pool("b"), lanes=(Lane(name="paid", max_waiting=100),))
    parts = [share_of(whole, worker, workers) for worker in range(1, workers + 1)]
    most = [part.lanes[0].max_waiting for part in parts]
    assert sum(most) == 100
    assert max(most) - min(most) <= 1
    assert all(part.pools == whole.pools for part in parts), "slots are divided by whoever counts them"


def test_a_bound_that_is_less_than_the_workers_is_refused() -> None:
    require_consistent(fleet(pool("a", max_concurrency=2), workers=2), "here")
    with pytest.raises(InputError, match=r"max_concurrency: 1 is less than gateway.workers = 2"):
        require_consistent(fleet(pool("a", max_concurrency=1), workers=2), "here")
