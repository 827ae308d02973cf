"""Several workers as one gateway: one port, one ledger, one set of circuits, one budget, whoever dies."""

import asyncio
import hashlib
import json
import os
import signal
from collections import Counter
from pathlib import Path

from tests.faults import raw_client
from tests.faults.conftest import MakeGateway, MakeWall
from tests.faults.dialects import Dialect
from tests.faults.fault import HEALTHY, Fault, Kind
from tests.faults.harness import Gateway, Pool, restart
from tests.faults.language_model import ask
from tests.faults.test_books_after_kill import assert_booked, bill, load, rows_of
from tests.faults.test_reload import SOON_S, until, welcomed
from tests.ledger_records import ledger_rows

LONG = 12  # answers that no worker has ended when it is killed: some are at either worker, but for a chance in 4096
TOKEN = {"authorization": "Bearer sk-limited"}
LIMITED = f"""
[[keys]]
sha256 = "{hashlib.sha256(b"sk-limited").hexdigest()}"
tenant = "acme"
lane = "default"
requests_per_minute = 60
"""


async def started(gateway: Gateway) -> list[int]:
    """Wait until every worker serves; returns their processes."""
    await welcomed(gateway)
    return workers_of(gateway)


def workers_of(gateway: Gateway) -> list[int]:
    """Return the workers' processes that live."""
    pid = gateway.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def metric(gateway: Gateway, name: str) -> float:
    """Return the sum over a metric's labels."""
    page = (await raw_client.get(gateway.admin_url, "/metrics")).body.decode()
    return sum(float(line.split()[-1]) for line in page.splitlines() if line.split("{")[0].split()[0] == name)


async def circuit_of(gateway: Gateway, pool: str) -> str:
    answer = await raw_client.get(gateway.admin_url, "/admin/replicas")
    return next(str(one["circuit"]) for one in answer.json["replicas"] if one["pool"] == pool)


async def until_circuit(gateway: Gateway, pool: str, state: str) -> None:
    async with asyncio.timeout(SOON_S):
        while await circuit_of(gateway, pool) != state:  # noqa: ASYNC110 -- it is asked again and again
            await asyncio.sleep(0.02)


async def test_a_worker_killed_under_load_is_replaced_and_every_attempt_is_booked_once(
    make_wall: MakeWall, make_gateway: MakeGateway
) -> None:
    walls = [make_wall(dialect=Dialect.VLLM, pace=0.005) for _ in range(2)]
    gateway = make_gateway(*(Pool(f"p{number}", (wall,)) for number, wall in enumerate(walls)), workers=2)
    await started(gateway)
    for turn in range(2):
        asking = asyncio.create_task(load(gateway, turn))
        long = [asyncio.create_task(gateway.ask(ask(f"long {turn} {n}", size=1500, stream=True))) for n in range(LONG)]
        seen = len(walls[0].seen)
        await until(lambda: len(walls[0].seen) > seen + 20)  # noqa: B023 -- awaited within this turn
        killed = workers_of(gateway)[turn]
        os.kill(killed, signal.SIGKILL)
        answers = await gateway.ask_many([ask(f"after {turn} {number}", size=60) for number in range(24)])
        assert all(answer.looks_whole for answer in answers), "a living worker takes the dead one's clients"
        asking.cancel()
        await asyncio.gather(asking, *long, return_exceptions=True)
        await until(lambda: len(workers_of(gateway)) == 2 and killed not in workers_of(gateway))  # noqa: B023
    running = await metric(gateway, "secondsource_requests_in_progress")
    assert await metric(gateway, "secondsource_worker_restarts_total") == 2
    audited = bill(gateway.state_dir, "--audit")
    assert (audited.returncode, json.loads(audited.stdout)["misfit"]) == (0, None)
    gateway.stop()
    rows = rows_of(gateway.state_dir)
    assert len({row["attempt_id"] for row in rows}) == len(rows)
    assert None not in {row["outcome"] for row in rows}
    assert [row for row in rows if row["outcome"] == "interrupted" and row["tenant_nano_usd"] == 0]
    for wall in walls:
        assert_booked(rows, wall)
    assert running < 24
    assert list((gateway.state_dir / "journal").iterdir()) == []
    audited = bill(gateway.state_dir, "--audit")
    assert (audited.returncode, json.loads(audited.stdout)["attempts"]) == (0, len(rows))


async def test_a_circuit_that_one_worker_opens_is_open_to_all_and_closes_for_all(
    make_wall: MakeWall, make_gateway: MakeGateway
) -> None:
    first, second = make_wall(), make_wall()
    gateway = make_gateway(Pool("first", (first,)), Pool("second", (second,), order=1), workers=3)
    first.refuse()
    assert (await gateway.ask(ask("one", size=9))).looks_whole  # one worker finds out, or the probes do
    await until_circuit(gateway, "first", "open")
    answers = await gateway.ask_many([ask(f"n {number}", size=9) for number in range(30)])
    assert {answer.headers["x-secondsource-attempts"] for answer in answers} == {"1"}
    first.listen()
    first.otherwise = Fault(Kind.SERVER_ERROR)  # each trial fails
    await until_circuit(gateway, "first", "half_open")
    seen = len(first.seen)
    answers = await gateway.ask_many([ask(f"m {number}", size=9) for number in range(30)], at_once=30)
    assert all(answer.looks_whole for answer in answers)
    assert len(first.seen) - seen <= 3, "one trial in a back-off of a second or so, not one a worker or a request"
    first.otherwise = HEALTHY
    async with asyncio.timeout(SOON_S):
        while len(first.seen) < seen + 20:
            assert (await gateway.ask(ask("again", size=9))).looks_whole
    assert await circuit_of(gateway, "first") == "closed"


async def test_all_workers_together_let_in_no_more_than_the_limit(
    make_wall: MakeWall, make_gateway: MakeGateway
) -> None:
    wall = make_wall()
    gateway = make_gateway(Pool("only", (wall,), max_concurrency=1000), workers=2, extra=LIMITED)
    asked = [gateway.ask(ask(f"n {number}", size=9), headers=TOKEN) for number in range(200)]
    statuses = Counter(answer.status for answer in await asyncio.gather(*asked))
    assert set(statuses) == {200, 429}
    # What one worker holds of the last slices the other cannot spend before they run out.
    assert 50 <= statuses[200] <= 60
    assert len(wall.seen) == statuses[200]
    gateway.stop()
    gateway = restart(gateway)  # what was used in the last minute is used up
    try:
        answers = await asyncio.gather(*(gateway.ask(ask("x", size=9), headers=TOKEN) for _ in range(20)))
        assert sum(answer.status == 200 for answer in answers) <= 60 - statuses[200]
    finally:
        gateway.stop()


async def test_what_one_process_shows_and_does_many_show_and_do(make_wall: MakeWall, make_gateway: MakeGateway) -> None:
    first, second = make_wall(pace=0.05), make_wall()
    gateway = make_gateway(Pool("first", (first,)), Pool("second", (second,), order=1), workers=2)
    running = [asyncio.create_task(gateway.ask(ask(f"n {number}", size=900, stream=True))) for number in range(8)]
    await until(lambda: len(first.seen) == 8)
    assert await metric(gateway, "secondsource_in_flight") == 8
    request_id = str(first.seen[0].headers["x-request-id"]).rpartition(".")[0]
    answer = await raw_client.get(gateway.admin_url, f"/admin/requests/{request_id}")
    assert answer.json["running"]["model"] == "chat"
    assert len(answer.json["attempts"]) == 1
    await asyncio.sleep(2.0)  # many ticks of the clock that the workers share: between two it is exact to none
    pulled = await raw_client.send(gateway.admin_url, "POST", "/admin/suppliers/first/unplug", b"", {})
    assert (pulled.status, pulled.json["attempts_cut"]) == (200, 8)
    assert all(answer.looks_whole for answer in await asyncio.gather(*running))
    assert len(second.seen) == 8
    await gateway.attempts(running[0].result())  # and so all of it is in the ledger
    (busy,) = ledger_rows(
        gateway.state_dir,
        "SELECT sum(replica_ns), max(settled_at_ns) - min(at_ns) FROM attempt WHERE pool = 'first'",
    )
    assert 0.7 < busy[0] / busy[1] < 1.1, "a second of the replica is paid for once, whoever asked it"
    assert await metric(gateway, "secondsource_in_flight") == 0
    assert await metric(gateway, "gen_ai_server_request_duration_seconds_count") == 8
    logs = list(gateway.state_dir.glob("requests*.jsonl"))
    assert {path.name for path in logs} <= {"requests.w1.jsonl", "requests.w2.jsonl"}
    assert sum(len(path.read_bytes().splitlines()) for path in logs) == 8


async def test_a_worker_told_to_stop_ends_what_it_answers_and_is_replaced(
    make_wall: MakeWall, make_gateway: MakeGateway
) -> None:
    wall = make_wall(pace=0.02)
    gateway = make_gateway(Pool("only", (wall,)), workers=2)
    before = await started(gateway)
    running = [asyncio.create_task(gateway.ask(ask(f"n {number}", size=300, stream=True))) for number in range(8)]
    await until(lambda: len(wall.seen) == 8)
    for pid in before:
        os.kill(pid, signal.SIGTERM)
    assert all(answer.looks_whole for answer in await asyncio.gather(*running))
    await until(lambda: len(set(workers_of(gateway)) - set(before)) == 2)
    gateway.wait()
    assert (await gateway.ask(ask("again", size=9))).looks_whole


async def test_workers_whose_coordinator_is_killed_end_and_the_next_start_has_their_books(
    make_wall: MakeWall, make_gateway: MakeGateway
) -> None:
    wall = make_wall(pace=0.01)
    gateway = make_gateway(Pool("only", (wall,)), workers=2)
    workers = await started(gateway)
    running = [asyncio.create_task(gateway.ask(ask(f"n {number}", size=200, stream=True))) for number in range(8)]
    await until(lambda: len(wall.seen) == 8)
    gateway.kill()
    assert all(answer.looks_whole for answer in await asyncio.gather(*running))
    await until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    gateway = restart(gateway)
    try:
        assert json.loads(bill(gateway.state_dir, "--audit").stdout)["attempts"] == 8
        assert {row["outcome"] for row in rows_of(gateway.state_dir)} == {"ok"}
    finally:
        gateway.stop()
