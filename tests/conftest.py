"""Options of the whole suite."""

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is slow, and that is no fault.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
pytest.register_assert_rewrite(
    "tests.faults.harness", "tests.faults.judge", "tests.faults.pair", "tests.faults.raw_client"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the seed and the size of random schedules of faults."""
    group = parser.getgroup("fault schedules")
    group.addoption("--seed", type=int, default=None, help="run one schedule of faults, by its seed")
    group.addoption("--streams", type=int, default=None, help="how many streams each schedule has")
