"""A gateway of two workers, killed at any instant under a load of image jobs: nobody is billed twice for one key."""

import asyncio
import os
import signal
from collections import Counter, defaultdict
from random import Random

import pytest

from tests.faults.conftest import MakeGateway, MakeWall
from tests.faults.harness import Gateway, Pool, restart
from tests.faults.test_image_jobs import LONG, assert_audited, paint
from tests.faults.test_workers import workers_of
from tests.ledger_records import ledger_rows

CLIENTS = 6
KEYS = 60  # more than are made before the last kill, so that some of them are cut off


async def load(gateway: Gateway, answers: dict[str, set[int]], seed: int) -> None:
    """Ask for the same images under the same keys again and again; every connection may break."""

    async def one_client(number: int) -> None:
        random = Random(f"{seed} {number}")
        while True:
            key = f"k{random.randrange(KEYS)}"
            try:
                patience = random.choice([0.02, 0.2, 5.0])
                answer = await paint(gateway, f"killed {key}", key, patience=patience)
            except OSError:
                return
            if answer.status == 200 and answer.body.endswith(b"}"):
                answers[key].add(answer.json["created"])

    await asyncio.gather(*(one_client(number) for number in range(CLIENTS)))


@pytest.mark.parametrize(("workers", "rounds"), [(1, 2), (2, 1)])  # workers take long to start
async def test_nobody_is_billed_twice_for_one_key(
    make_wall: MakeWall, make_gateway: MakeGateway, workers: int, rounds: int
) -> None:
    random = Random(workers)
    wall = make_wall(painting=0.06)
    gateway = make_gateway(Pool("only", (wall,)), timeouts=LONG, workers=workers)
    answers: dict[str, set[int]] = defaultdict(set)
    try:
        for turn in range(rounds):
            asking = asyncio.create_task(load(gateway, answers, turn))
            await asyncio.sleep(random.uniform(0.1, 0.5))
            for worker in workers_of(gateway):
                os.kill(worker, signal.SIGKILL)
            gateway.kill()
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            gateway = restart(gateway)
        last = await asyncio.gather(*(paint(gateway, f"killed k{number}", f"k{number}") for number in range(KEYS)))
        for number, answer in enumerate(last):
            assert answer.status == 200
            answers[f"k{number}"].add(answer.json["created"])
    finally:
        gateway.stop()
    assert {key: len(made) for key, made in answers.items()} == {f"k{number}": 1 for number in range(KEYS)}
    asked = {seen.attempt_id: seen.body["prompt"] for seen in wall.seen}
    rows = ledger_rows(gateway.state_dir, "SELECT attempt_id, outcome, tenant_nano_usd FROM attempt")
    billed = Counter(asked[attempt_id] for attempt_id, _, tenant in rows if tenant)
    assert set(billed.values()) <= {1}, billed
    interrupted = sum(outcome == "interrupted" for _, outcome, _ in rows)
    assert interrupted
    assert len(wall.seen) <= KEYS + interrupted, "one generation a key, and one for each that a kill cut off"
    assert_audited(gateway)
