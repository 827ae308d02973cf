"""Watching: one look for all who watch, and nothing at all that runs when nobody does."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import httpx
import pytest

from secondsource.console import watching
from secondsource.console.application import make_console
from secondsource.console.watching import Watching
from secondsource.core.fleet import Fleet, Key, Lane, Pool, Supplier
from secondsource.gateway.admin.application import Shown, build_admin
from secondsource.gateway.books.books import Books
from secondsource.gateway.meter import Meter
from secondsource.gateway.request_log import RequestLog
from tests.unit.console.lines import failover


async def nobody(_: str) -> None:
    return None


async def plug(_supplier: str, _plugged: bool) -> int:
    return 0


def shown_of(directory: Path, keys: tuple[Key, ...] = ()) -> Shown:
    pool = Pool(name="a", supplier="azure", chip="h100", model="chat", upstream_model="m", replicas=("http://a",))
    fleet = Fleet(
        state_dir=str(directory),
        suppliers=(Supplier(name="azure"),),
        pools=(pool,),
        lanes=(Lane(name="paid"),),
        keys=keys,
    )
    return Shown(
        fleet=fleet,
        meter=Meter(("chat",), ("paid",)),
        books=Books(directory),
        replicas=list,
        running=nobody,
        flows=list,
        plug=plug,
        gateway_url="http://127.0.0.1:1",
        admin_url="http://127.0.0.1:2",
        make_console=make_console,
    )


def looking() -> list[asyncio.Task[object]]:
    return [task for task in asyncio.all_tasks() if task.get_name() == "console"]


async def test_all_who_watch_share_one_look_and_nothing_runs_after_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "EVERY_S", 0.01)
    one = Watching(shown_of(tmp_path))
    assert not looking()
    async with asyncio.timeout(20), aclosing(one.events()) as first, aclosing(one.events()) as second:
        for events in (first, second, first, second, first):
            event = await anext(events)
            assert event.startswith((b"retry:", b"event: now\ndata: {"))
        assert len(looking()) == 1
    await asyncio.sleep(0)
    assert not looking()


async def test_a_look_that_fails_is_begun_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "EVERY_S", 0.01)
    monkeypatch.setattr(watching, "PATIENCE_S", 0.05)
    one = Watching(shown_of(tmp_path))
    async with asyncio.timeout(20), aclosing(one.events()) as events:
        await anext(events)
        await anext(events)
        [task] = looking()
        task.cancel()
        assert (await anext(events)).startswith(b"event: now")
        assert (await anext(events)).startswith(b"event: now")


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(build_admin(shown_of(tmp_path)))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8081") as client:
        yield client


async def test_what_ended_a_moment_ago_is_seen(client: httpx.AsyncClient, tmp_path: Path) -> None:
    from datetime import UTC, datetime

    log = RequestLog(tmp_path)
    log.write([failover(at=datetime.now(UTC))])
    log.close()
    now = (await client.get("/console/api/now")).json()
    assert [(one["kind"], one["request_ids"]) for one in now["incidents"]] == [("failover", ["req_1"])]


async def test_the_page_has_a_strict_policy_and_is_sent_once(client: httpx.AsyncClient) -> None:
    page = await client.get("/console")
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    again = await client.get("/console", headers={"if-none-match": page.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    for name in ("nothing.js", "..%2Fapplication.py", "echarts.LICENSE"):
        assert (await client.get(f"/console/static/{name}")).status_code == 404


async def test_a_chat_that_the_gateway_does_not_answer_says_so(client: httpx.AsyncClient) -> None:
    answer = await client.post("/console/api/chat", json={})
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "gateway_unreachable"


@pytest.mark.parametrize(
    "path",
    ["spend?span=1y", "spend?by=hour", "requests?id=a%20b", "requests?hours=0", "requests?outcome=%27"],
)
async def test_what_cannot_be_meant_is_refused_with_words(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(f"/console/api/{path}")
    assert answer.status_code == 400
    assert "expected" in answer.json()["error"]["message"]


async def test_about_tells_what_may_be_done(client: httpx.AsyncClient, tmp_path: Path) -> None:
    about = (await client.get("/console/api/about")).json()
    assert (about["may_change"], about["chat_needs_key"], about["suppliers"]) == (True, False, ["azure"])
    keys = (Key(sha256="0" * 64, tenant="acme", lane="paid"),)
    transport = httpx.ASGITransport(build_admin(shown_of(tmp_path, keys)))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8081") as keyed:
        about = json.loads((await keyed.get("/console/api/about")).content)
        assert (about["may_change"], about["chat_needs_key"]) == (False, True)
        assert (await keyed.post("/console/api/plan/again")).status_code == 403
