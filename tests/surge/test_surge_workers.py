"""A short surge against two workers: a client is known at whichever worker it comes back to."""

import asyncio

import pytest

from tests.surge.load import Client, Load
from tests.surge.replica import Speed
from tests.surge.stand import TOKENS, stand
from tests.surge.test_surge import REPLICAS, SHORT, SLOTS, requests_per_s
from tests.surge.verdict import Obedient

SURGE_S = 12.0


@pytest.fixture(scope="module")
def surged(tmp_path_factory: pytest.TempPathFactory) -> list[Client]:
    """Run the surge once; every request comes on a connection of its own, to either worker."""
    with stand(tmp_path_factory.mktemp("surge"), REPLICAS, SLOTS, workers=2) as over:

        async def run() -> list[Client]:
            load = Load(over.port, TOKENS, 1, SHORT, obeys=0.5)
            surge = await load.run(SURGE_S, 4.0 * requests_per_s())
            await load.end(12.0)
            return surge

        return asyncio.run(run())


def test_most_who_come_back_as_told_get_in_at_either_worker(surged: list[Client]) -> None:
    obedient = Obedient.of(surged, Speed().prompt_tokens_per_s)
    assert obedient.came_back > 20
    assert obedient.got_in >= 0.7 * obedient.came_back, obedient
