"""The staffing formula against the exact queue it approximates."""

import math

import pytest

from secondsource.profiles.staffing import BUSIEST, chance_to_wait_longer, safe_utilisation


def erlang_c(servers: int, utilisation: float) -> float:
    """Return P(wait) of an M/M/k queue, exactly."""
    load = servers * utilisation
    blocked = 1.0
    for count in range(1, servers + 1):
        blocked = load * blocked / (count + load * blocked)
    return blocked / (1 - utilisation * (1 - blocked))


@pytest.mark.parametrize("servers", [1, 2, 8, 64, 512])
@pytest.mark.parametrize("utilisation", [0.7, 0.9, 0.97])
def test_the_chance_to_wait_is_near_erlangs(servers: int, utilisation: float) -> None:
    exact = erlang_c(servers, utilisation)
    assert chance_to_wait_longer(0.0, servers, 1.0, utilisation) == pytest.approx(exact, abs=0.06)


def test_one_server_is_the_exact_queue() -> None:
    """P(W > t) of M/M/1 is rho exp(-t (1 - rho) / S)."""
    assert chance_to_wait_longer(3.0, 1, 2.0, 0.8) == pytest.approx(0.8 * math.exp(-3.0 * 0.2 / 2.0))


def test_the_spare_share_falls_with_the_root_of_the_pool() -> None:
    """Halfin and Whitt: with no time to wait, four times the servers halve the spare share."""
    spare = [1 - safe_utilisation(0.0, servers, 1.0, 0.2) for servers in (64, 256)]
    assert spare[0] / spare[1] == pytest.approx(2.0, rel=0.1)


def test_the_answer_keeps_the_limit_and_is_not_timid() -> None:
    busy = safe_utilisation(0.5, 4, 1.0, 0.05)
    assert chance_to_wait_longer(0.5, 4, 1.0, busy) == pytest.approx(0.05, rel=1e-6)
    assert safe_utilisation(-1.0, 4, 1.0, 0.05) == 0.0
    assert safe_utilisation(1e9, 4, 1.0, 0.05) == BUSIEST
