"""What a gateway has done it forgets at once: a request or a connection left in a cycle of references stays for hours.

`up` looks for cycles seldom, as looking costs every request time, and what lived through one look waits for twenty
more; so whatever a connection or a request leaves behind grows with the traffic, in steps.
"""

import asyncio
import gc
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from secondsource.core.fleet import Fleet
from secondsource.core.fleet_file import load_fleet
from secondsource.gateway.service import Service
from tests.faults import raw_client
from tests.faults.conftest import MakeWall
from tests.faults.harness import Pool, fleet_toml
from tests.faults.schedule import TIMEOUTS, Schedule

STREAMS = 150
AT_ONCE = 12
OURS = ("secondsource.", "httptools.")


def fleet_over(directory: Path, *pools: Pool) -> Fleet:
    """A fleet of walls on ports that are free."""
    path = directory / "fleet.toml"
    path.write_text(fleet_toml(pools, directory / "state", TIMEOUTS))
    read = load_fleet(path)
    anywhere = [msgspec.structs.replace(one, port=0) for one in (read.gateway, read.admin)]
    return msgspec.structs.replace(read, gateway=anywhere[0], admin=anywhere[1])


@contextmanager
def garbage_kept() -> Iterator[list[Any]]:
    """Keep what a collection would free, and look for it only when told."""
    gc.disable()
    try:
        yield gc.garbage
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


async def load(service: Service, schedule: Schedule) -> Counter[int]:
    """Send every request of a schedule, of which some clients leave, and some ask what is no request."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(number: int, body: dict[str, Any]) -> int:
        async with gate:
            data = body if number % 20 else json.dumps(body).encode()[:-1]
            leaves = number % 8 if number % 3 == 1 else None
            return (await raw_client.post(service.gateway_url, data, leave_after=leaves)).status

    return Counter(await asyncio.gather(*(one(number, schedule.body(number)) for number in range(schedule.streams))))


async def forgotten(service: Service) -> None:
    """Wait until nothing is under way, and what was to end a moment later has ended."""
    async with asyncio.timeout(20):
        while service.exchanges or any(replica.in_flight for replica in service.router.replicas):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await asyncio.sleep(1.5)  # a call that was left waits a second for its message to end; nothing tells of it


def test_what_is_over_is_freed_without_a_collection(tmp_path: Path, make_wall: MakeWall) -> None:
    schedule = Schedule(4, STREAMS)
    schedule.trouble = 0.4
    ways = enumerate(schedule.ways())
    walls = [(make_wall(dialect=dialect, decide=schedule.fault), number, way) for number, (dialect, way) in ways]
    pools = [Pool(f"pool-{number}", (wall,), continuation=way, order=number // 2) for wall, number, way in walls]

    async def run(garbage: list[Any]) -> tuple[Counter[int], Counter[str]]:
        service = Service(fleet_over(tmp_path, *pools), {})
        await service.start()
        gc.collect()  # what reading the fleet file left
        try:
            statuses = await load(service, schedule)
            await forgotten(service)
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            kinds = [f"{type(one).__module__}.{type(one).__qualname__}" for one in garbage]
            return statuses, Counter(kind for kind in kinds if kind.startswith(OURS))
        finally:
            gc.set_debug(0)
            await service.stop(1.0)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, garbage_kept() as garbage:
        statuses, left = runner.run(run(garbage))
    assert statuses[200] > STREAMS / 2
    assert statuses[400]
    assert not left, f"in cycles, and freed by a collection only: {dict(left)}"
