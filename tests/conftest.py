"""Options of the whole suite."""

import pytest

pytest.register_assert_rewrite(
    "tests.faults.harness", "tests.faults.judge", "tests.faults.pair", "tests.faults.raw_client"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the seed and the size of random schedules of faults."""
    group = parser.getgroup("fault schedules")
    group.addoption("--seed", type=int, default=None, help="run one schedule of faults, by its seed")
    group.addoption("--streams", type=int, default=None, help="how many streams each schedule has")
