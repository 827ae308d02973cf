"""SIGHUP: another fleet is served from then on, and no stream is dropped. SIGTERM: gone within the grace."""

import asyncio
import hashlib
import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults import raw_client
from tests.faults.conftest import MakeGateway, MakeWall
from tests.faults.fault import Fault, Kind
from tests.faults.harness import TIMEOUTS, Gateway, Keys, Pool, fleet_toml
from tests.faults.language_model import ask
from tests.faults.test_books_after_kill import bill

SOON_S = 20.0
BOTH = pytest.mark.parametrize("workers", [1, 2])
OLD, NEW = (Keys(hashlib.sha256(token.encode()).hexdigest(), "acme") for token in ("sk-old", "sk-new"))


def write_fleet(gateway: Gateway, *pools: Pool, keys: tuple[Keys, ...] = ()) -> Path:
    path = gateway.state_dir.parent / "fleet.toml"
    path.write_text(fleet_toml(pools, gateway.state_dir, TIMEOUTS, keys))
    return path


async def hang_up(gateway: Gateway, said: str) -> None:
    """Send SIGHUP and wait until the gateway has said what it did."""
    before = gateway.log_text().count(said)
    gateway.process.send_signal(signal.SIGHUP)
    await until(lambda: gateway.log_text().count(said) > before)


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(SOON_S):
        while not holds():  # noqa: ASYNC110 -- what happens elsewhere sets no event here
            await asyncio.sleep(0.01)


async def welcomed(gateway: Gateway) -> None:
    """Wait until the gateway has started whole: one of several workers may answer before the others do."""
    await until(lambda: "Ctrl-C stops." in gateway.log_text())


async def pools_shown(gateway: Gateway) -> list[str]:
    answer = await raw_client.get(gateway.admin_url, "/admin/replicas")
    return [replica["pool"] for replica in answer.json["replicas"]]


@BOTH
async def test_a_removed_pool_drains_and_a_new_one_serves(
    make_wall: MakeWall, make_gateway: MakeGateway, workers: int
) -> None:
    old, new = make_wall(pace=0.01), make_wall()
    gateway = make_gateway(Pool("old", (old,)), workers=workers)
    running = asyncio.create_task(gateway.ask(ask("a long one", size=900, stream=True)))
    await until(lambda: len(old.seen) == 1)
    write_fleet(gateway, Pool("new", (new,), model="chat"))
    await hang_up(gateway, "new is new; old gets no more requests")
    assert await pools_shown(gateway) == ["new"]
    assert not running.done()
    answers = await gateway.ask_many([ask(f"short {number}", size=9) for number in range(8 * workers)])
    assert {answer.headers["x-secondsource-pool"] for answer in answers} == {"new"}
    answered = await running
    assert answered.looks_whole
    assert answered.headers["x-secondsource-pool"] == "old"
    assert len(old.seen) == 1
    await until(lambda: not old.connected)  # and then it goes: no connection to it is kept
    assert json.loads(bill(gateway.state_dir, "--audit").stdout)["misfit"] is None


async def test_a_request_whose_only_pool_was_removed_and_then_cut_goes_on_at_the_new_one(
    make_wall: MakeWall, make_gateway: MakeGateway
) -> None:
    old, new = make_wall(pace=0.01), make_wall()
    old.plan(Fault(Kind.CUT, after_tokens=100))
    gateway = make_gateway(Pool("old", (old,)))
    running = asyncio.create_task(gateway.ask(ask("a long one", size=900, stream=True)))
    await until(lambda: len(old.seen) == 1)
    write_fleet(gateway, Pool("new", (new,)))
    await hang_up(gateway, "was read again")
    answered = await running
    assert answered.looks_whole
    assert len(new.seen) == 1


async def test_a_bad_file_changes_nothing_and_is_told(make_wall: MakeWall, make_gateway: MakeGateway) -> None:
    wall = make_wall()
    gateway = make_gateway(Pool("only", (wall,)))
    path = write_fleet(gateway, Pool("other", (wall,)))
    good = path.read_text()
    for bad, told in (
        (good.replace("weight = 1.0", 'weight = "much"'), "pools[0].weight"),
        (good.replace("[gateway]", '[gateway]\nhost = "127.0.0.2"'), "gateway.host: 127.0.0.2 takes a new start"),
        ("[gateway", "fleet.toml:1"),
    ):
        path.write_text(bad)
        await hang_up(gateway, "was not taken")
        assert told in gateway.log_text()
        assert await pools_shown(gateway) == ["only"]
        assert (await gateway.ask(ask("still", size=3))).headers["x-secondsource-pool"] == "only"


@BOTH
async def test_keys_limits_and_what_is_known_of_a_replica(
    make_wall: MakeWall, make_gateway: MakeGateway, workers: int
) -> None:
    wall, dead = make_wall(), make_wall()
    dead.refuse()
    pools = Pool("a", (wall,)), Pool("b", (dead,))
    gateway = make_gateway(*pools, keys=(OLD,), workers=workers)
    old, new = ({"authorization": f"Bearer sk-{name}"} for name in ("old", "new"))
    assert (await gateway.ask(ask("x", size=3), headers=old)).status == 200
    path = write_fleet(gateway, *pools, Pool("c", (make_wall(),), weight=3.0), keys=(NEW,))
    path.write_text(path.read_text() + "requests_per_minute = 5\n")  # the key's
    await hang_up(gateway, "c is new")
    assert (await gateway.ask(ask("x", size=3), headers=old)).status == 401
    answers = await asyncio.gather(*(gateway.ask(ask("x", size=3), headers=new) for _ in range(20)))
    assert 1 <= sum(answer.status == 200 for answer in answers) <= 5
    assert {answer.status for answer in answers} == {200, 429}
    answer = await raw_client.get(gateway.admin_url, "/admin/replicas")
    states = {replica["pool"]: replica["circuit"] for replica in answer.json["replicas"]}
    assert states["b"] == "open"  # as it was before


@BOTH
async def test_sigterm_ends_within_the_grace(make_wall: MakeWall, make_gateway: MakeGateway, workers: int) -> None:
    wall = make_wall(pace=0.02)
    gateway = make_gateway(Pool("only", (wall,)), timeouts={"grace": 2.0}, workers=workers)
    await welcomed(gateway)
    running = [asyncio.create_task(gateway.ask(ask(f"n {size}", size=size, stream=True))) for size in (150, 9000)]
    await until(lambda: len(wall.seen) == len(running))
    started = time.monotonic()
    gateway.process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(gateway.process.wait, SOON_S) == 0
    assert time.monotonic() - started < SOON_S / 2
    short, long = await asyncio.gather(*running)
    assert short.looks_whole
    assert not long.looks_whole
    audited = json.loads(bill(gateway.state_dir, "--audit").stdout)
    assert (audited["misfit"], audited["attempts"]) == (None, 2)
