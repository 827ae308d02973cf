"""A client that leaves: noticed within a second, its replica left too, and what was made until then is billed."""

import asyncio
import statistics
import time

import pytest

from tests.faults import meter
from tests.faults.conftest import MakeGateway, MakeWall
from tests.faults.fault import Fault, Kind
from tests.faults.harness import Gateway, Pool
from tests.faults.judge import STREAM
from tests.faults.language_model import ask
from tests.faults.misbehave import Seen
from tests.faults.pair import until
from tests.faults.wall import Wall

CLIENTS = 9
PACE = 0.05
PATIENT = {"first_token": 60.0, "between_tokens": 60.0, "answer": 60.0, "total": 120.0}


async def cancelled(wall: Wall, count: int) -> None:
    """Wait until the wall has been left by so many."""

    async def all_left() -> bool:
        return sum(seen.peer_closed_early for seen in wall.seen) == count

    await until(all_left, seconds=10)


async def booked(gateway: Gateway, wall: Wall) -> list[tuple[meter.Row, Seen]]:
    """Return each attempt as the books have it, once all have ended, beside what the wall did for it."""
    rows: dict[str, meter.Row] = {}

    async def all_ended() -> bool:
        rows.update(await asyncio.to_thread(meter.read_rows, gateway.state_dir))
        return len(rows) == len(wall.seen) and all(row.outcome is not None for row in rows.values())

    await until(all_ended, seconds=20)
    return [(rows[seen.attempt_id], seen) for seen in wall.seen]


@pytest.mark.parametrize("after_events", [1, 7])
async def test_a_stream_is_cancelled_and_what_was_made_is_billed(
    make_wall: MakeWall, make_gateway: MakeGateway, after_events: int
) -> None:
    wall = make_wall(pace=PACE)  # the whole answer would take a quarter of a minute
    gateway = make_gateway(Pool("only", (wall,)), timeouts=PATIENT)
    left_at: dict[str, float] = {}

    async def leave(number: int) -> None:
        body = ask(f"leaving {number}", size=1500, **STREAM)
        received = await gateway.ask(body, leave_after=after_events)
        left_at[received.headers["x-request-id"]] = time.monotonic()

    await asyncio.gather(*(leave(number) for number in range(CLIENTS)))
    await cancelled(wall, CLIENTS)
    noticed = [seen.ended_at - left_at[seen.attempt_id.rpartition(".")[0]] for seen in wall.seen]
    print("a replica was left after its client by", [f"{seconds:.3f} s" for seconds in sorted(noticed)])
    assert statistics.median(noticed) < 1.0
    for row, seen in await booked(gateway, wall):
        assert row.outcome == "client_gone"
        assert row.usage_counted
        assert after_events - 1 <= row.tokens_out <= seen.events_sent
        assert row.tokens_in > 0
        assert row.cost_nano_usd > 0
        assert row.tenant_nano_usd == row.cost_nano_usd


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_client_that_leaves_before_any_answer_lets_its_replica_go(
    make_wall: MakeWall, make_gateway: MakeGateway, streamed: bool
) -> None:
    wall = make_wall(otherwise=Fault(Kind.SILENCE))
    gateway = make_gateway(Pool("only", (wall,)), timeouts=PATIENT)
    asking = [
        asyncio.create_task(gateway.ask(ask(f"silence {number}", stream=streamed), patience=100))
        for number in range(CLIENTS)
    ]

    async def all_asked() -> bool:
        return len(wall.seen) == CLIENTS

    await until(all_asked, seconds=10)
    left_at = time.monotonic()
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
    await cancelled(wall, CLIENTS)
    assert statistics.median(seen.ended_at - left_at for seen in wall.seen) < 1.0
    for row, _ in await booked(gateway, wall):
        assert (row.outcome, row.tokens_in, row.tokens_out) == ("client_gone", 0, 0)
