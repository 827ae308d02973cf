"""A request's lane: its key's own, or a worse one that it asks for."""

import pytest

from secondsource.core.fleet import Lane
from secondsource.policy.lanes import Lanes

LANES = Lanes([Lane(name="free", priority=10), Lane(name="paid"), Lane(name="batch", priority=100)])


def test_lanes_are_ordered_best_first() -> None:
    assert [lane.name for lane in LANES.ordered] == ["paid", "free", "batch"]


@pytest.mark.parametrize(
    ("own", "tier", "priority", "lane"),
    [
        ("free", None, None, "free"),
        ("free", "priority", None, "free"),  # a key cannot claim a better lane
        ("free", None, 0, "free"),
        ("free", None, -5, "free"),
        ("paid", "default", None, "paid"),
        ("paid", "flex", None, "batch"),
        ("paid", None, 10, "free"),
        ("paid", None, 50, "free"),
        ("paid", None, 10**9, "batch"),
        ("paid", "made-up", None, "paid"),
        ("batch", "flex", 0, "batch"),
    ],
)
def test_a_request_may_only_step_back(own: str, tier: str | None, priority: int | None, lane: str) -> None:
    assert LANES.lane_for(own, tier, priority).name == lane
