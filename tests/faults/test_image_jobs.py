"""Image jobs against real sockets: made once whoever retries, through deaths of clients, suppliers and the gateway."""

import asyncio
import hashlib
import json
import os
import re
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from tests.faults import raw_client
from tests.faults.conftest import MakeGateway, MakeWall, gateways_under, walls_of
from tests.faults.fault import HEALTHY, Fault, Kind
from tests.faults.harness import Gateway, Keys, Pool, restart
from tests.faults.painter import FIRST_CREATED
from tests.faults.pair import Pair
from tests.faults.raw_client import End, Received
from tests.faults.test_books_after_kill import bill
from tests.faults.test_workers import workers_of
from tests.faults.wall import WallThread
from tests.ledger_records import ledger_rows

PATH = "/v1/images/generations"
ACME, GLOBEX = "sk-ss-acme", "sk-ss-globex"
LONG = {"answer": 15.0}


async def paint(gateway: Gateway, prompt: str, key: str = "", token: str = "", **options: Any) -> Received:
    headers = options.pop("headers", {})
    headers |= {"idempotency-key": key} if key else {}
    headers |= {"authorization": f"Bearer {token}"} if token else {}
    patience = options.pop("patience", 20.0)
    leave_after = options.pop("leave_after", None)
    body = {"model": "chat", "prompt": prompt, **options}
    return await raw_client.post(
        gateway.url, body, path=PATH, headers=headers, patience=patience, leave_after=leave_after
    )


def rows_of(gateway: Gateway) -> list[dict[str, Any]]:
    names = ("request_id", "number", "pool", "outcome", "cost_nano_usd", "tenant_nano_usd")
    rows = ledger_rows(gateway.state_dir, f"SELECT {', '.join(names)} FROM attempt ORDER BY at_ns")
    return [dict(zip(names, row, strict=True)) for row in rows]


def assert_audited(gateway: Gateway) -> None:
    audited = bill(gateway.state_dir, "--audit")
    assert (audited.returncode, json.loads(audited.stdout)["misfit"]) == (0, None), audited.stdout


def jobs(gateway: Gateway, sql: str) -> list[tuple[Any, ...]]:
    """Return what a query of the job store says."""
    with closing(sqlite3.connect(gateway.state_dir / "images" / "jobs.sqlite3")) as connection:
        return connection.execute(sql).fetchall()


def worker_that_paints(gateway: Gateway) -> int:
    """Return the worker that runs the one job that runs."""
    [(owner,)] = jobs(gateway, "SELECT owner FROM job WHERE status = 'running'")
    alive = str(gateway.state_dir / "images" / f"{owner}.alive")
    return next(
        worker
        for worker in workers_of(gateway)
        if alive in {os.readlink(link) for link in Path(f"/proc/{worker}/fd").iterdir() if link.is_symlink()}
    )


async def until(holds: Callable[[], bool], seconds: float = 15.0) -> None:
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 -- what is waited for happens in other threads and processes
            await asyncio.sleep(0.02)


async def ended_job(gateway: Gateway, where: str, headers: dict[str, str] | None = None) -> Received:
    """Ask for a job until it does not run any more."""
    for _ in range(300):
        view = await raw_client.get(gateway.url, where, headers)
        assert view.status == 200, view.body
        if view.json["status"] != "running":
            return view
        assert view.json["result"] is None
        assert int(view.headers["retry-after"]) > 0
        await asyncio.sleep(0.05)
    raise AssertionError(view.body)


@pytest.fixture(scope="module")
def studio(wall_thread: WallThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two painters that take half a second, and a gateway with a key for each of two tenants."""
    with walls_of(wall_thread) as make_wall, gateways_under(tmp_path_factory.mktemp("studio")) as make_gateway:
        first, second = make_wall(painting=0.5), make_wall(painting=0.5)
        keys = tuple(
            Keys(hashlib.sha256(token.encode()).hexdigest(), tenant)
            for token, tenant in ((ACME, "acme"), (GLOBEX, "globex"))
        )
        gateway = make_gateway(Pool("first", (first,)), Pool("second", (second,), order=1), keys=keys, timeouts=LONG)
        yield Pair(first, second, gateway)


def generations(pair: Pair, prompt: str) -> int:
    """Return how often any replica was asked for these images."""
    return sum(seen.body.get("prompt") == prompt for wall in (pair.first, pair.second) for seen in wall.seen)


async def test_fifty_at_once_are_one_generation(studio: Pair) -> None:
    studio.first.painting = 3.0  # so that the last of them comes before the first is answered
    try:
        answers = await asyncio.gather(*(paint(studio.gateway, "fifty", token=ACME) for _ in range(50)))
    finally:
        studio.first.painting = 0.5
    assert {answer.status for answer in answers} == {200}
    assert len({answer.json["created"] for answer in answers}) == 1
    assert len({answer.headers["x-secondsource-job"] for answer in answers}) == 1
    assert len({answer.headers["x-request-id"] for answer in answers}) == 50
    assert generations(studio, "fifty") == 1
    again = await paint(studio.gateway, "fifty", token=ACME)
    assert again.json["created"] >= FIRST_CREATED
    assert generations(studio, "fifty") == 2, "another image was asked for, once the first had been had"


async def test_another_tenant_joins_nothing(studio: Pair) -> None:
    answers = await asyncio.gather(*(paint(studio.gateway, "apart", "k-apart", token) for token in (ACME, GLOBEX)))
    assert [answer.status for answer in answers] == [200, 200]
    assert generations(studio, "apart") == 2


@pytest.mark.parametrize("key", ["k-left", ""])
async def test_a_client_that_times_out_and_retries_joins(studio: Pair, key: str) -> None:
    prompt = f"left {key}"
    gone = await paint(studio.gateway, prompt, key, ACME, patience=0.15)
    assert gone.end is End.TIMEOUT
    back = await paint(studio.gateway, prompt, key, ACME)
    assert (back.status, generations(studio, prompt)) == (200, 1)


@pytest.mark.parametrize("key", ["k-late", ""])
async def test_a_client_that_comes_back_late_gets_what_it_missed(studio: Pair, key: str) -> None:
    prompt = f"late {key}"
    await paint(studio.gateway, prompt, key, ACME, patience=0.15)
    await until(lambda: jobs(studio.gateway, "SELECT job_id FROM job WHERE status = 'done' AND had = 0") != [])
    back = await paint(studio.gateway, prompt, key, ACME)
    assert (back.status, generations(studio, prompt)) == (200, 1)
    assert back.headers["idempotent-replayed"] == "true"
    assert back.headers["x-secondsource-pool"] == "first"


async def test_openais_client_retries_of_itself_into_the_same_job(studio: Pair) -> None:
    with OpenAI(base_url=f"{studio.gateway.url}/v1", api_key=ACME, timeout=0.4, max_retries=20) as client:
        answer = await asyncio.to_thread(client.images.generate, model="chat", prompt="impatient")
    assert answer.data is not None
    assert answer.created is not None
    assert generations(studio, "impatient") == 1


async def test_a_key_is_answered_again_and_not_for_another_request(studio: Pair) -> None:
    first = await paint(studio.gateway, "again", "k-again", ACME)
    again = await paint(studio.gateway, "again", "k-again", ACME)
    assert (again.status, again.body) == (200, first.body)
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    other = await paint(studio.gateway, "different", "k-again", ACME)
    assert (other.status, other.json["error"]["code"]) == (422, "idempotency_key_reused")
    assert generations(studio, "again") == 1


async def test_partial_images_stream_to_all_who_wait(studio: Pair) -> None:
    asked = [paint(studio.gateway, "stream", token=ACME, stream=True, partial_images=2) for _ in range(3)]
    studio.first.painting = 2.0
    try:
        answers = await asyncio.gather(*asked)
    finally:
        studio.first.painting = 0.5
    kinds = ["image_generation.partial_image"] * 2 + ["image_generation.completed"]
    for answer in answers:
        assert answer.end is End.WHOLE
        assert [event.json["type"] for event in answer.events] == kinds
    assert generations(studio, "stream") == 1


async def test_a_job_is_asked_for_by_its_tenant_alone(studio: Pair) -> None:
    later = {"prefer": "respond-async"}
    told = await paint(studio.gateway, "later", token=ACME, headers=dict(later))
    assert (told.status, told.json["status"], told.headers["preference-applied"]) == (202, "running", "respond-async")
    assert int(told.headers["retry-after"]) > 0
    where, authorization = told.headers["location"], {"authorization": f"Bearer {ACME}"}
    assert where == f"/v1/images/jobs/{told.json['id']}"
    view = await ended_job(studio.gateway, where, authorization)
    assert view.json["status"] == "done"
    assert view.json["result"]["data"][0]["b64_json"]
    other = await raw_client.get(studio.gateway.url, where, {"authorization": f"Bearer {GLOBEX}"})
    assert (other.status, other.json["error"]["code"]) == (404, "job_not_found")
    assert (await raw_client.get(studio.gateway.url, where)).status == 401
    assert generations(studio, "later") == 1


async def test_a_supplier_that_dies_in_mid_job_is_replaced_once(studio: Pair) -> None:
    studio.first.plan(Fault(Kind.CUT_RST))
    answer = await paint(studio.gateway, "dies", token=ACME)
    assert (answer.status, answer.headers["x-secondsource-pool"]) == (200, "second")
    rows = await studio.gateway.attempts(answer)
    assert [row["outcome"] for row in rows] == ["reset", "ok"]
    assert [float(row["tenant_usd"]) > 0 for row in rows] == [False, True]
    studio.first.otherwise = studio.second.otherwise = Fault(Kind.CUT_RST)
    try:
        failed = await paint(studio.gateway, "dies twice", "k-dies", ACME)
        assert failed.status == 502
        assert generations(studio, "dies twice") == 2
    finally:
        studio.first.otherwise = studio.second.otherwise = HEALTHY


async def test_a_stream_that_dies_is_made_elsewhere(studio: Pair) -> None:
    await until(studio.gateway.ready)
    studio.first.plan(Fault(Kind.CUT_RST))
    answer = await paint(studio.gateway, "dies in sight", token=ACME, stream=True, partial_images=2)
    kinds = [event.json["type"].rpartition(".")[2] for event in answer.events]
    assert answer.end is End.WHOLE
    assert kinds[-1] == "completed"
    assert kinds.count("completed") == 1
    rows = await studio.gateway.attempts(answer)
    assert [float(row["tenant_usd"]) > 0 for row in rows] == [row["outcome"] == "ok" for row in rows]


async def test_what_requests_came_to_is_counted(studio: Pair) -> None:
    page = (await raw_client.get(studio.gateway.admin_url, "/metrics")).body.decode()
    counted = re.findall(r'^secondsource_image_requests_total\{came_to="(\w+)"\} [1-9]', page, re.MULTILINE)
    assert {"start", "join", "replay", "conflict"} <= set(counted)
    assert not re.search(r"^secondsource_first_token_prediction_ratio_count\{", page, re.MULTILINE)
    limits = re.findall(r"^secondsource_concurrency_limit\{.*\} (.*)$", page, re.MULTILINE)
    assert set(limits) <= {"64.0"}, "a partial image that took seconds is no late first token"


async def test_the_audit_is_green(studio: Pair) -> None:
    assert_audited(studio.gateway)


async def test_a_gateway_killed_in_mid_job_makes_it_once_more_whoever_retries(
    make_wall: MakeWall, make_gateway: MakeGateway
) -> None:
    wall = make_wall(painting=10.0)
    gateway = make_gateway(Pool("only", (wall,)), timeouts=LONG)
    waiting = [asyncio.create_task(paint(gateway, "killed", "k")) for _ in range(3)]
    later = await paint(gateway, "killed later", headers={"prefer": "respond-async"})
    await until(lambda: len(wall.seen) == 2)
    wall.painting = 0.5
    gateway.kill()
    await asyncio.gather(*waiting, return_exceptions=True)
    gateway = restart(gateway)
    try:
        answers = await asyncio.gather(*(paint(gateway, "killed", "k") for _ in range(10)))
        assert {answer.status for answer in answers} == {200}
        assert len({answer.body for answer in answers}) == 1
        where = later.headers["location"]
        assert (await ended_job(gateway, where)).json["status"] == "done"
        assert len(wall.seen) == 4, "one more of each"
        gateway.kill()
        gateway = restart(gateway)
        again = await paint(gateway, "killed", "k")
        assert (again.status, again.body) == (200, answers[0].body)
        assert len(wall.seen) == 4
    finally:
        gateway.stop()
    rows = rows_of(gateway)
    assert [row["outcome"] for row in rows] == ["interrupted", "interrupted", "ok", "ok"]
    assert [row["tenant_nano_usd"] > 0 for row in rows] == [False, False, True, True]
    assert_audited(gateway)


async def test_a_gateway_that_stops_in_mid_job_leaves_it_to_the_next(
    make_wall: MakeWall, make_gateway: MakeGateway
) -> None:
    wall = make_wall(painting=10.0)
    gateway = make_gateway(Pool("only", (wall,)), timeouts=LONG | {"grace": 0.3})
    waiting = asyncio.create_task(paint(gateway, "stopped", "k"))
    await until(lambda: len(wall.seen) == 1)
    gateway.stop()
    await waiting
    wall.painting = 0.0
    gateway = restart(gateway)
    try:
        answer = await paint(gateway, "stopped", "k")
        assert (answer.status, len(wall.seen)) == (200, 2)
    finally:
        gateway.stop()
    rows = rows_of(gateway)
    assert [(row["outcome"], row["tenant_nano_usd"] > 0) for row in rows] == [("interrupted", False), ("ok", True)]
    assert_audited(gateway)


async def test_workers_make_it_once_and_go_on_for_one_that_is_killed(
    make_wall: MakeWall, make_gateway: MakeGateway
) -> None:
    wall = make_wall(painting=0.2)
    gateway = make_gateway(Pool("only", (wall,)), timeouts=LONG, workers=2)
    try:
        answers = await asyncio.gather(*(paint(gateway, "shared", "k") for _ in range(24)))
        assert {answer.status for answer in answers} == {200}
        assert len({answer.body for answer in answers}) == 1
        assert len(wall.seen) == 1
        wall.painting = 10.0  # longer than it lives
        asked = [asyncio.create_task(paint(gateway, "orphan", "l")) for _ in range(24)]
        await until(lambda: len(wall.seen) == 2)
        wall.painting = 0.2
        await asyncio.sleep(0.2)  # so that everybody waits
        os.kill(worker_that_paints(gateway), signal.SIGKILL)
        lived = [answer for answer in await asyncio.gather(*asked) if answer.status == 200]
        again = await paint(gateway, "orphan", "l")
        assert lived, "of 24 connections none was at the other worker"
        assert {answer.body for answer in lived} == {again.body}
        assert len(wall.seen) == 3, "once more, whoever retries"
    finally:
        gateway.stop()
    rows = rows_of(gateway)
    assert [row["outcome"] for row in rows] == ["ok", "interrupted", "ok"]
    assert [row["tenant_nano_usd"] > 0 for row in rows] == [True, False, True]
    assert_audited(gateway)


async def test_images_are_priced_by_pixels_and_steps(make_wall: MakeWall, make_gateway: MakeGateway) -> None:
    price = "usd_per_image_step_megapixel = 0.0001\nimage_steps = 20"
    hosted = Pool("hosted", (make_wall(),), price=price)
    gateway = make_gateway(hosted, timeouts=LONG)
    await paint(gateway, "one", size="1000x500")
    await paint(gateway, "two", size="1000x1000", n=3, num_inference_steps=4)
    await paint(gateway, "three")
    gateway.stop()
    assert [row["cost_nano_usd"] for row in rows_of(gateway)] == [1_000_000, 1_200_000, 2_097_152]
    assert all(row["tenant_nano_usd"] == row["cost_nano_usd"] for row in rows_of(gateway))
    assert_audited(gateway)


async def test_a_lost_attempt_that_may_be_charged_for_is_the_operators(
    make_wall: MakeWall, make_gateway: MakeGateway
) -> None:
    price = "usd_per_image_step_megapixel = 0.0001\nimage_steps = 10"
    dying, well = make_wall(otherwise=Fault(Kind.CUT_RST)), make_wall()
    gateway = make_gateway(Pool("dying", (dying,), price=price), Pool("well", (well,), price=price, order=1))
    assert (await paint(gateway, "lost", size="1000x1000")).status == 200
    gateway.stop()
    rows = [(row["pool"], row["cost_nano_usd"], row["tenant_nano_usd"]) for row in rows_of(gateway)]
    assert rows == [("dying", 1_000_000, 0), ("well", 1_000_000, 1_000_000)]
    assert_audited(gateway)


async def test_a_job_counts_once_for_its_key(make_wall: MakeWall, make_gateway: MakeGateway) -> None:
    limited = f'[[keys]]\nsha256 = "{hashlib.sha256(ACME.encode()).hexdigest()}"\ntenant = "acme"\nlane = "default"\n'
    bounds = 'requests_per_minute = 2\nusd_per_day = 0.1\n[[lanes]]\nname = "default"\nttft_s = 1.0\n'
    gateway = make_gateway(Pool("only", (make_wall(painting=0.3),)), timeouts=LONG, extra=limited + bounds)
    answers = await asyncio.gather(*(paint(gateway, "first", "k", ACME) for _ in range(5)))
    assert [answer.status for answer in answers] == [200] * 5
    assert (await paint(gateway, "second", "l", ACME)).status == 200
    refused = await paint(gateway, "third", "m", ACME)
    assert (refused.status, refused.json["error"]["code"]) == (429, "rate_limit_exceeded")
    assert int(refused.headers["retry-after"]) > 0
    assert (await paint(gateway, "first", "k", ACME)).status == 200, "what is kept is had again"
    assert (await paint(gateway, "third", "m", ACME)).status == 429, "what was refused is not kept"


async def test_nobody_comes_back(make_wall: MakeWall, make_gateway: MakeGateway) -> None:
    wall = make_wall(painting=20.0)
    gateway = make_gateway(Pool("only", (wall,)), timeouts=LONG, extra="[images]\ncomes_back = 0.2\n")
    await paint(gateway, "given up", "k", patience=0.1)
    await until(lambda: bool(wall.seen) and wall.seen[0].peer_closed_early)
    wall.painting = 0.0
    again = await paint(gateway, "given up", "k")
    assert again.status == 200
    gateway.stop()
    assert [row["outcome"] for row in rows_of(gateway)] == ["client_gone", "ok"]
    assert_audited(gateway)
