"""The way in, over sockets: limits first, then the lane's queue, then a replica; and what is said on the way out."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from secondsource.core.fleet import AdminListener, Allowance, Key, Lane, Listener, Tenant
from secondsource.gateway.service import Service
from tests.fleets import MODEL, fleet, pool
from tests.tally import Tally
from tests.unit.gateway.held_replica import Answered, Client, HeldReplica

ASK = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 40}
LANES = (Lane(name="paid", priority=0, ttft_s=10.0), Lane(name="free", priority=10, ttft_s=10.0, max_waiting=3))


def key(token: str, lane: str = "paid", tenant: str = "acme", **allowance: int) -> Key:
    sha256 = hashlib.sha256(token.encode()).hexdigest()
    return Key(sha256=sha256, tenant=tenant, lane=lane, allowance=Allowance(**allowance))


@contextlib.asynccontextmanager
async def serving(
    directory: Path, *keys: Key, max_concurrency: int | None = 1, **changes: Any
) -> AsyncIterator[tuple[Service, HeldReplica]]:
    """A service over one replica that answers when it is told to."""
    replica = await HeldReplica().start()
    only = pool("a", replicas=(replica.url,), max_concurrency=max_concurrency)
    here = {"gateway": Listener(host="127.0.0.1", port=0), "admin": AdminListener(host="127.0.0.1", port=0)}
    service = Service(fleet(only, state_dir=str(directory), keys=keys, **here, **changes), {})
    await service.start()
    try:
        yield service, replica
    finally:
        await replica.stop()
        await service.stop(1.0)


def asking(service: Service, token: str | None = None, **changes: Any) -> "asyncio.Task[Answered]":
    return asyncio.create_task(Client(service, ASK | changes, token).ask())


async def waiting(service: Service, lane: str, count: int) -> None:
    async with asyncio.timeout(20):
        while sum(one.waiting for one in service.lane_views() if one.lane == lane) != count:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_paid_gets_in_where_other_workers_leave_slots(tmp_path: Path) -> None:
    keys = (key("p"), key("f", "free", "guest"))
    async with serving(tmp_path, *keys, lanes=LANES, max_concurrency=4, workers=2) as (service, replica):
        service.router.replicas[0].share(Tally([0, 0], 0))
        tasks = [asking(service, "f", n=number) for number in (1, 2)]
        await replica.has(2)
        tasks.append(asking(service, "f", n=3))
        await waiting(service, "free", 1)
        tasks.append(asking(service, "p", n=4))
        await replica.has(3)
        tasks.append(asking(service, "p", n=5))
        await waiting(service, "paid", 1)
        assert len(replica.arrived) == 3, "the last slot of the others is theirs"
        replica.holds = False
        for number in range(3):
            replica.let_go(number)
        assert [(await task).status for task in tasks] == [200] * 5


async def test_paid_goes_before_free_whoever_came_first(tmp_path: Path) -> None:
    keys = (key("p"), key("f", "free", "guest"))
    async with serving(tmp_path, *keys, lanes=LANES) as (service, replica):
        tasks = [asking(service, "p", n=1)]
        await replica.has(1)
        tasks.append(asking(service, "f", user="free"))
        await waiting(service, "free", 1)
        tasks.append(asking(service, "p", user="paid"))
        await waiting(service, "paid", 1)
        for number in (1, 2, 3):
            await replica.has(number)
            assert len(replica.arrived) == number, "more than max_concurrency at once"
            replica.let_go(number - 1)
        assert [one.status for one in await asyncio.gather(*tasks)] == [200, 200, 200]
        assert [one.get("user") for one in replica.arrived] == [None, "paid", "free"]


@pytest.mark.parametrize("asked", [{"service_tier": "flex"}, {"priority": 10}])
async def test_a_request_may_ask_for_a_worse_lane(tmp_path: Path, asked: dict[str, Any]) -> None:
    async with serving(tmp_path, key("p"), lanes=LANES) as (service, replica):
        tasks = [asking(service, "p")]
        await replica.has(1)
        tasks.append(asking(service, "p", **asked))
        await waiting(service, "free", 1)
        replica.let_go()
        await replica.has(2)
        replica.let_go()
        await asyncio.gather(*tasks)


async def test_a_free_key_cannot_claim_a_better_lane(tmp_path: Path) -> None:
    async with serving(tmp_path, key("f", "free"), lanes=LANES) as (service, replica):
        tasks = [asking(service, "f")]
        await replica.has(1)
        tasks.append(asking(service, "f", priority=0, service_tier="priority"))
        await waiting(service, "free", 1)
        for number in (0, 1):
            await replica.has(number + 1)
            replica.let_go(number)
        await asyncio.gather(*tasks)


@pytest.mark.parametrize("asked", [{"priority": "--5"}, {"priority": 1.5}, {"service_tier": 3}, {"priority": 10**40}])
async def test_a_wish_that_is_none_changes_no_lane(tmp_path: Path, asked: dict[str, Any]) -> None:
    async with serving(tmp_path, key("p"), lanes=LANES, max_concurrency=None) as (service, replica):
        task = asking(service, "p", **asked)
        await replica.has(1)
        assert [one.lane for one in service.lane_views() if one.running] == ["paid"]
        replica.let_go()
        assert (await task).status == 200


async def test_whose_lane_goes_while_it_waits_is_served_in_another(tmp_path: Path) -> None:
    async with serving(tmp_path, key("p"), key("f", "free"), lanes=LANES) as (service, replica):
        tasks = [asking(service, "p")]
        await replica.has(1)
        tasks.append(asking(service, "f"))
        await waiting(service, "free", 1)
        await service.reload(msgspec.structs.replace(service.fleet, lanes=LANES[:1], keys=(key("p"),)), {})
        await waiting(service, "paid", 1)
        for number in (0, 1):
            await replica.has(number + 1)
            replica.let_go(number)
        assert [one.status for one in await asyncio.gather(*tasks)] == [200, 200]


async def test_a_full_lane_sends_away_and_says_when_to_come_back(tmp_path: Path) -> None:
    async with serving(tmp_path, key("f", "free"), lanes=LANES) as (service, replica):
        tasks = [asking(service, "f", seed=number) for number in range(4)]
        await waiting(service, "free", 3)
        refused = await asking(service, "f", seed=9)
        assert refused.status == 503
        assert refused.headers["x-secondsource-refused"] in ("rejected-queue-full", "rejected-ttft")
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.body["error"]["code"] == "overloaded"
        early = await asking(service, "f", seed=9)
        assert early.headers["x-secondsource-refused"] == "rejected-before-its-time"
        [view] = [one for one in service.lane_views() if one.lane == "free"]
        assert (view.running, view.waiting, view.slots) == (1, 3, 1)
        assert sum(view.refused.values()) == 2
        for number in range(4):
            await replica.has(number + 1)
            replica.let_go(number)
        assert [one.status for one in await asyncio.gather(*tasks)] == [200] * 4


async def test_who_leaves_while_waiting_is_forgotten_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as (service, replica):
        first = asking(service)
        await replica.has(1)
        leaver = Client(service, ASK)
        left = asyncio.create_task(leaver.ask())
        await waiting(service, "default", 1)
        leaver.hang_up()
        await waiting(service, "default", 0)
        replica.let_go()
        assert (await first).status == 200
        left.cancel()
        assert len(replica.arrived) == 1
        assert service.exchanges == {}


async def test_whose_time_runs_out_while_waiting_is_evicted(tmp_path: Path) -> None:
    lanes = (Lane(name="paid", ttft_s=0.4),)
    async with serving(tmp_path, key("p"), lanes=lanes, max_concurrency=2) as (service, replica):
        # Little work is expected of each: the queue looks short, and the answers do not come.
        tasks = [asking(service, "p", max_tokens=1, seed=number) for number in range(2)]
        await replica.has(2)
        evicted = await asking(service, "p", max_tokens=1, seed=3)
        assert evicted.status == 503
        assert evicted.headers["x-secondsource-refused"] == "evicted-ttft"
        replica.let_go(0)
        replica.let_go(1)
        assert [one.status for one in await asyncio.gather(*tasks)] == [200, 200]


async def test_a_lane_without_a_promise_waits_as_long_as_for_a_first_token(tmp_path: Path) -> None:
    async with serving(tmp_path) as (service, _):
        [view] = service.lane_views()
        assert view.ttft_s == service.fleet.timeouts.first_token


# -- limits


async def test_a_limit_is_told_before_and_after_it_is_reached(tmp_path: Path) -> None:
    async with serving(tmp_path, key("p", requests_per_minute=2), lanes=LANES, max_concurrency=None) as (
        service,
        replica,
    ):
        tasks = [asking(service, "p") for _ in range(2)]
        await replica.has(2)
        refused = await asking(service, "p")
        assert refused.status == 429
        assert refused.headers["x-secondsource-refused"] == "rejected-requests-per-minute"
        assert 1 <= int(refused.headers["retry-after"]) <= 61
        assert refused.headers["x-ratelimit-limit-requests"] == "2"
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"
        assert "requests per minute" in refused.body["error"]["message"]
        assert refused.body["error"]["code"] == "rate_limit_exceeded"
        replica.let_go(0)
        replica.let_go(1)
        for answered in await asyncio.gather(*tasks):
            assert answered.status == 200
            assert answered.headers["x-ratelimit-limit-requests"] == "2"


async def test_what_was_reserved_and_not_used_can_be_used(tmp_path: Path) -> None:
    # Each may write 900 tokens, and does write 100 with its prompt.
    async with serving(tmp_path, key("p", tokens_per_day=2000), lanes=LANES, max_concurrency=None) as (
        service,
        replica,
    ):
        first = asking(service, "p", max_tokens=900)
        await replica.has(1)
        second = asking(service, "p", max_tokens=900)
        await replica.has(2)
        assert (await asking(service, "p", max_tokens=900)).headers[
            "x-secondsource-refused"
        ] == "rejected-tokens-per-day"
        replica.let_go(0)
        replica.let_go(1)
        await asyncio.gather(first, second)
        third = asking(service, "p", max_tokens=900)
        await replica.has(3)
        replica.let_go(2)
        assert (await third).status == 200


async def test_a_request_that_the_lane_sends_away_costs_nothing(tmp_path: Path) -> None:
    lanes = (Lane(name="paid", max_waiting=0),)
    async with serving(tmp_path, key("p", requests_per_day=2), lanes=lanes) as (service, replica):
        first = asking(service, "p")
        await replica.has(1)
        for seed in range(5):
            assert (await asking(service, "p", seed=seed)).status == 503
        replica.let_go(0)
        await first
        second = asking(service, "p", seed=9)
        await replica.has(2)
        replica.let_go(1)
        assert (await second).status == 200


async def test_all_keys_of_a_tenant_share_its_limits(tmp_path: Path) -> None:
    tenants = (Tenant(name="acme", allowance=Allowance(requests_per_day=1)),)
    keys = (key("p"), key("q"))
    async with serving(tmp_path, *keys, lanes=LANES, tenants=tenants, max_concurrency=None) as (service, replica):
        first = asking(service, "p")
        await replica.has(1)
        refused = await asking(service, "q")
        assert refused.status == 429
        assert 'tenant "acme"' in refused.body["error"]["message"]
        replica.let_go(0)
        await first


async def test_a_day_is_not_begun_anew_by_a_restart(tmp_path: Path) -> None:
    one = key("p", requests_per_day=3, tokens_per_day=1000)
    async with serving(tmp_path, one, lanes=LANES, max_concurrency=None) as (service, replica):
        tasks = [asking(service, "p", seed=number) for number in range(2)]
        await replica.has(2)
        replica.let_go(0)
        replica.let_go(1)
        await asyncio.gather(*tasks)
    async with serving(tmp_path, one, lanes=LANES, max_concurrency=None) as (service, replica):
        third = asking(service, "p")
        await replica.has(1)
        replica.let_go(0)
        answered = await third
        assert answered.headers["x-ratelimit-remaining-requests"] == "0"
        assert (await asking(service, "p")).status == 429
    async with serving(tmp_path, one, lanes=LANES, max_concurrency=None) as (service, replica):
        used = {
            str(meter.id.measure): meter.limit - meter.remaining(0.0)
            for meter in service._entrance.limiting.limits.meters()
        }
        assert used == {"requests": 3, "tokens": 300}


async def test_two_hundred_at_once_do_not_overspend(tmp_path: Path) -> None:
    one = key("p", tokens_per_day=5000)
    async with serving(tmp_path, one, lanes=LANES, max_concurrency=None) as (service, replica):
        tasks = [asking(service, "p", seed=number) for number in range(200)]
        async with asyncio.timeout(30):
            sent_away = service.meter.refused
            while len(replica.arrived) + sent_away["paid", "rejected-tokens-per-day"] < 200:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        for held in replica.held:
            held.set()
        good = [one for one in await asyncio.gather(*tasks) if one.status == 200]
        assert 1 <= len(good) <= 50  # each used 100
        assert len(good) == len(replica.arrived)


@pytest.mark.parametrize(
    ("load", "limit"),
    [
        (b"TEXT named_metrics.kv_cache_usage_perc=0.5, named_metrics.num_requests_waiting=0", 10),
        (b"TEXT named_metrics.kv_cache_usage_perc=0.97, named_metrics.num_requests_waiting=0", 7),
        (b"TEXT application_utilization=1.2", 7),
    ],
)
async def test_a_replica_is_asked_how_loaded_it_is_and_believed(tmp_path: Path, load: bytes, limit: int) -> None:
    async with serving(tmp_path, max_concurrency=10) as (service, replica):
        replica.holds, replica.load = False, load
        assert (await asking(service)).status == 200
        assert [one.limit for one in service.router.replicas] == [limit]
