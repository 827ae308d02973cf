"""Seeded runs of a fleet in virtual time; a failure prints the command that runs it again.

More of them: SECONDSOURCE_SOAK=200 .venv/bin/python -m pytest tests/simulation
"""

import os
from collections import Counter

import pytest

from secondsource.core.records import Outcome
from tests.simulation.fleet_in_time import World

SEEDS = range(int(os.environ.get("SECONDSOURCE_SOAK", "0")) or 6)
REQUESTS = 300


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One run by its seed where the command line gives one, otherwise a few."""
    if "seed" in metafunc.fixturenames:
        given = metafunc.config.getoption("--seed")
        metafunc.parametrize("seed", SEEDS if given is None else [given])


def test_a_fleet_keeps_its_promises(seed: int) -> None:
    world = World(seed, REQUESTS)
    try:
        world.run()
    except AssertionError as error:
        again = f".venv/bin/python -m pytest tests/simulation --seed {seed}"
        raise AssertionError(f"{error} at {world.now:.3f} s; again: {again}") from error
    ends = Counter(request.end for request in world.requests)
    assert ends["ok"] > REQUESTS / 2, ends


def test_the_same_seed_is_the_same_run() -> None:
    one, two = World(3, 100), World(3, 100)
    one.run()
    two.run()
    trail = [[(replica.url, kind, outcome) for replica, kind, outcome in request.asked] for request in one.requests]
    assert trail == [[(r.url, kind, outcome) for r, kind, outcome in request.asked] for request in two.requests]
    assert one.counts == two.counts


def test_a_run_meets_every_trouble() -> None:
    world = World(1, REQUESTS)
    world.run()
    wanted = {Outcome.OK, Outcome.CONNECT_FAILED, Outcome.FIRST_TOKEN_TIMEOUT, Outcome.THROTTLED, Outcome.SERVER_ERROR}
    assert wanted | {Outcome.CUT, Outcome.STALLED, Outcome.CALLER_ERROR} <= world.counts.keys()
