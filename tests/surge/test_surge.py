"""A short surge against a real gateway over sockets: what must hold whatever the machine does meanwhile.

`benchmarks/surge.py` is the long one, with numbers.
"""

import asyncio

import pytest

from tests.surge.load import FREE, PAID, Client, Load, Sizes
from tests.surge.replica import Speed
from tests.surge.stand import TOKENS, Stand, stand
from tests.surge.verdict import Obedient, of_lane, ttft_s

REPLICAS, SLOTS = 2, 4
SHORT = Sizes(prompt=(5.0, 0.5), answer=(2.5, 0.3), most_prompt=1000, most_answer=40)
MEAN_ANSWER = 12.7  # tokens, of these sizes
SURGE_S = 15.0


def requests_per_s() -> float:
    """Return about what the replicas can do, by their own speed."""
    return REPLICAS * SLOTS / (MEAN_ANSWER * Speed(SLOTS).full_step_s)


@pytest.fixture(scope="module")
def surged(tmp_path_factory: pytest.TempPathFactory) -> "tuple[Stand, list[Client], list[Client], int]":
    """Run the surge once; the clients of the surge, those after it, and the most that waited."""
    with stand(tmp_path_factory.mktemp("surge"), REPLICAS, SLOTS) as over:

        async def run() -> tuple[list[Client], list[Client], int]:
            load = Load(over.port, TOKENS, 1, SHORT, obeys=0.5)
            watching = asyncio.create_task(over.watch(SURGE_S))
            surge = await load.run(SURGE_S, 5.0 * requests_per_s())
            await asyncio.sleep(3.0)
            after = await load.run(3.0, 0.4 * requests_per_s())
            await load.end(10.0)
            return surge, after, max(one[1] for one in await watching)

        surge, after, waiting = asyncio.run(run())
        assert over.gateway.poll() is None
        yield over, surge, after, waiting  # type: ignore[misc]


Surged = tuple[Stand, list[Client], list[Client], int]


def test_paid_is_served_while_free_is_sent_away(surged: Surged) -> None:
    _, surge, _, _ = surged
    paid, free = of_lane(surge, PAID), of_lane(surge, FREE)
    assert len(paid) > 50
    assert sum(one.served for one in paid) >= 0.99 * len(paid)
    assert sum(one.served for one in free) < 0.6 * len(free)
    assert ttft_s(surge, PAID, 0.9) < ttft_s(surge, FREE, 0.9)


def test_who_is_sent_away_is_told_why_and_until_when(surged: Surged) -> None:
    _, surge, _, _ = surged
    refused = [one for client in surge for one in client.tries if one.status != 200]
    assert len(refused) > 100
    assert {one.status for one in refused} == {503}
    assert all(one.retry_after is not None and one.retry_after >= 1.0 for one in refused)
    assert all(one.refused.startswith(("rejected-", "evicted-")) for one in refused)


def test_most_who_come_back_as_told_get_in(surged: Surged) -> None:
    _, surge, _, _ = surged
    obedient = Obedient.of(surge, Speed().prompt_tokens_per_s)
    assert obedient.came_back > 20
    assert obedient.got_in >= 0.7 * obedient.came_back, obedient


def test_no_replica_gets_more_than_it_may_and_nothing_waits_without_bound(surged: Surged) -> None:
    over, _, _, waiting = surged
    assert max(one["most_at_once"] for one in over.stats()) <= SLOTS
    assert 0 < waiting < 2000


def test_it_is_over_when_it_is_over(surged: Surged) -> None:
    over, _, after, _ = surged
    assert sum(one.served for one in after) >= 0.9 * len(after)
    assert sum(one["waiting"] + one["running"] for one in over.lanes().values()) == 0
    assert "secondsource_sent_away_total" in over.metrics()
