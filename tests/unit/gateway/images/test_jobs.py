"""Image jobs in one process and in two: who starts, who joins, who goes on when the other has died."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from secondsource.core.fleet import Fleet, ImageTerms
from secondsource.gateway.authentication import Principal
from secondsource.gateway.client import Lines
from secondsource.gateway.images.asker import Asker, Wish
from secondsource.gateway.images.job_answers import JOBS_PATH
from secondsource.gateway.images.jobs import ImageJobs
from secondsource.gateway.recipient import Recipient
from secondsource.gateway.wire.request import Ask, Endpoint, RequestError, parse_request
from secondsource.policy.image_jobs import Verdict
from tests.fleets import fleet, pool
from tests.unit.gateway.stage import Connection

ACME = Principal(tenant="acme", lane="paid", key_id="k")
BODY = b'{"model":"chat","prompt":"a chip"}'
MADE = b'{"created":1,"data":[{"b64_json":"AAAA"}]}'
HERE: Lines = [(b"x-request-id", b"req_0"), (b"x-secondsource-pool", b"first"), (b"x-ratelimit-limit", b"5")]


class Made:
    """An exchange that the test ends."""

    def __init__(self, recipient: Recipient, ask: Ask, request_id: str) -> None:
        self.recipient = recipient
        self.ask = ask
        self.request_id = request_id
        self.was: list[str] = []

    def client_gone(self) -> None:
        self.was.append("cancelled")

    def interrupted(self) -> None:
        self.was.append("interrupted")


Make = Callable[..., "Process"]


class Process:
    """A process that serves image jobs: everything but the exchanges is real."""

    def __init__(self, state_dir: Path, served: Fleet) -> None:
        self.begun: list[Made] = []
        self.refusing = False
        self.verdicts: list[Verdict] = []
        self.ended_with: list[tuple[str, int]] = []
        self.jobs = ImageJobs(state_dir, served, self, self)  # type: ignore[arg-type]
        self._ids = 0

    def begin(
        self, recipient: Recipient, ask: Ask, principal: Principal, request_id: str, headers: dict[bytes, bytes]
    ) -> Any:
        made = Made(recipient, ask, request_id)
        self.begun.append(made)
        if self.refusing:
            recipient.respond(503, b'{"error":{"message":"nobody"}}', [(b"retry-after", b"3")])
        return made

    def new_request_id(self) -> str:
        self._ids += 1
        return f"req_{id(self)}_{self._ids}"

    def came_to(self, verdict: Verdict) -> None:
        self.verdicts.append(verdict)

    def ended(self, asker: Asker, status: int) -> None:
        self.ended_with.append((asker.request_id, status))

    def ask(self, key: str = "", *, later: bool = False, body: bytes = BODY) -> tuple[Wish, Connection]:
        client = Connection()
        headers = {b"idempotency-key": key.encode()} if key else {}
        headers |= {b"prefer": b"respond-async"} if later else {}
        ask = parse_request(Endpoint.IMAGES, body)
        wish = Wish(client, ask, ACME, self.new_request_id(), headers, body)  # type: ignore[arg-type]
        assert self.jobs.asked(wish) is wish
        return wish, client

    def look(self, path: str, tenant: str = "acme") -> Connection:
        client = Connection()
        principal = Principal(tenant=tenant, lane="paid", key_id="k")
        self.jobs.shown(Asker(client, principal, self.new_request_id(), path), b"GET")  # type: ignore[arg-type]
        return client


@pytest.fixture
def processes(tmp_path: Path) -> Make:
    def make(comes_back_s: float = 0.2) -> Process:
        process = Process(tmp_path, fleet(pool("first"), images=ImageTerms(comes_back_s=comes_back_s)))
        process.jobs.start()
        return process

    return make


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 -- what is waited for are ticks and threads
            await asyncio.sleep(0.01)


async def test_a_joiner_has_its_own_id_and_the_same_answer(processes: Make) -> None:
    process = processes()
    (_, first), (_, second) = process.ask(), process.ask()
    [made] = process.begun
    made.recipient.respond(200, MADE, HERE)
    assert (first.status, second.status, first.body, second.body) == (200, 200, MADE, MADE)
    assert first.headers[b"x-request-id"] != second.headers[b"x-request-id"]
    assert first.headers[b"x-secondsource-job"] == second.headers[b"x-secondsource-job"]
    assert process.verdicts == [Verdict.START, Verdict.JOIN]
    assert process.ended_with == [(second.headers[b"x-request-id"].decode(), 200)], "the first is its exchange's"
    await process.jobs.stop()


async def test_a_replay_tells_where_it_was_made_and_nothing_of_limits(processes: Make) -> None:
    process = processes()
    process.ask("k")
    process.begun[0].recipient.respond(200, MADE, HERE)
    _, again = process.ask("k")
    await until(lambda: bool(again.status))
    assert (again.status, again.body, again.headers[b"x-secondsource-pool"]) == (200, MADE, b"first")
    assert b"x-ratelimit-limit" not in again.headers
    assert len(process.begun) == 1
    await process.jobs.stop()


async def test_another_process_waits_and_then_has_it(processes: Make) -> None:
    one, two = processes(), processes()
    one.ask("k")
    (_, waiting), (gone, _) = two.ask("k"), two.ask()
    gone.client_gone()
    assert two.begun == []
    await asyncio.sleep(0.3)
    assert not waiting.status
    one.begun[0].recipient.respond(200, MADE, HERE)
    await until(lambda: bool(waiting.status))
    assert (waiting.status, waiting.body, two.begun) == (200, MADE, [])
    await one.jobs.stop()
    await two.jobs.stop()


async def test_another_process_goes_on_when_one_stops(processes: Make) -> None:
    one, two = processes(), processes()
    one.ask("k")
    clients = [two.ask("k")[1] for _ in range(3)]
    await one.jobs.stop()
    assert one.begun[0].was == ["interrupted"]
    one.begun[0].recipient.respond(503, b"{}", [])  # too late to say anything
    await until(lambda: bool(two.begun))
    two.begun[0].recipient.respond(200, MADE, HERE)
    assert [client.status for client in clients] == [200] * 3
    assert len(two.begun) == 1
    await two.jobs.stop()


async def test_another_process_is_told_of_a_failure(processes: Make) -> None:
    one, two = processes(), processes()
    one.ask("k")
    _, waiting = two.ask("k")
    one.begun[0].recipient.respond(504, b'{"error":{"message":"slow"}}', [])
    await until(lambda: bool(waiting.status))
    assert (waiting.status, json.loads(waiting.body)["error"]["message"]) == (504, "slow")
    await one.jobs.stop()
    await two.jobs.stop()


async def test_a_job_that_nobody_waits_for_is_given_up(processes: Make) -> None:
    process = processes()
    wish, _ = process.ask("k")
    wish.client_gone()
    await until(lambda: process.begun[0].was == ["cancelled"])
    process.ask("k")
    assert len(process.begun) == 2
    await process.jobs.stop()


async def test_a_job_that_another_process_waits_for_is_not(processes: Make) -> None:
    one, two = processes(2.0), processes(2.0)
    wish, _ = one.ask("k")
    _, waiting = two.ask("k")
    wish.client_gone()
    await asyncio.sleep(2.5)
    assert one.begun[0].was == []
    one.begun[0].recipient.respond(200, MADE, HERE)
    await until(lambda: bool(waiting.status))
    assert waiting.status == 200
    await one.jobs.stop()
    await two.jobs.stop()


async def test_a_job_in_the_background_runs_on_and_is_asked_for(processes: Make) -> None:
    process = processes()
    _, told = process.ask(later=True)
    view = json.loads(told.body)
    assert (told.status, view["status"], told.headers[b"preference-applied"]) == (202, "running", b"respond-async")
    await asyncio.sleep(0.5)
    assert process.begun[0].was == []
    running = process.look(JOBS_PATH + view["id"])
    await until(lambda: bool(running.status))
    assert (json.loads(running.body)["result"], running.headers[b"retry-after"]) == (None, b"2")
    process.begun[0].recipient.respond(200, MADE, HERE)
    done = process.look(JOBS_PATH + view["id"])
    await until(lambda: bool(done.status))
    assert json.loads(done.body)["result"] == json.loads(MADE)
    for path, tenant in ((view["id"], "globex"), ("imgjob_none", "acme")):
        with pytest.raises(RequestError) as caught:
            process.look(JOBS_PATH + path, tenant)
        assert caught.value.status == 404
    await process.jobs.stop()


async def test_a_job_in_the_background_goes_on_after_a_restart_three_times_at_most(
    processes: Make,
) -> None:
    process = processes()
    _, told = process.ask(later=True)
    path = JOBS_PATH + json.loads(told.body)["id"]
    for runs in (2, 3):
        await process.jobs.stop()
        process = processes()
        view = process.look(path)
        await until(lambda view=view: bool(view.status))  # type: ignore[misc]
        assert json.loads(view.body)["status"] == "running"
        assert (len(process.begun), process.begun[0].ask.raw("prompt")) == (1, b'"a chip"'), runs
    await process.jobs.stop()
    process = processes()
    view = process.look(path)
    await until(lambda: bool(view.status))
    assert json.loads(view.body)["status"] == "failed"
    assert json.loads(view.body)["error"]["code"] == "job_lost"
    assert process.begun == []
    await process.jobs.stop()


async def test_a_job_that_was_lost_is_said_to_be(processes: Make) -> None:
    process = processes()
    process.ask("k")
    job_id = process.jobs._runs.popitem()[0]  # as a death loses it
    view = process.look(JOBS_PATH + job_id)
    await until(lambda: bool(view.status))
    assert json.loads(view.body)["status"] == "failed"
    assert json.loads(view.body)["error"]["code"] == "job_lost"
    process.ask("k")
    assert len(process.begun) == 2
    await process.jobs.stop()


async def test_too_many_jobs_are_refused_and_those_that_run_are_joined(
    processes: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secondsource.gateway.images.jobs.MOST_RUNNING", 1)
    process = processes()
    process.ask("k")
    _, refused = process.ask("l", body=b'{"model":"chat","prompt":"another"}')
    assert (refused.status, refused.headers[b"retry-after"]) == (503, b"1")
    _, joined = process.ask("k")
    process.begun[0].recipient.respond(200, MADE, HERE)
    assert joined.status == 200
    process.ask("l", body=b'{"model":"chat","prompt":"another"}')
    assert len(process.begun) == 2
    await process.jobs.stop()


async def test_nobody_to_make_it_is_said_at_once(processes: Make) -> None:
    process = processes()
    process.refusing = True
    _, client = process.ask("k")
    assert (client.status, client.headers[b"retry-after"]) == (503, b"3")
    _, later = process.ask("k", later=True)
    assert (later.status, json.loads(later.body)["error"]["message"]) == (503, "nobody")
    process.refusing = False
    process.ask("k")
    assert len(process.begun) == 3
    await process.jobs.stop()


async def test_a_key_is_for_one_request(processes: Make) -> None:
    process = processes()
    process.ask("k")
    with pytest.raises(RequestError) as caught:
        process.ask("k", body=b'{"model":"chat","prompt":"another"}')
    assert caught.value.status == 422
    await process.jobs.stop()


async def test_a_stream_is_given_to_each_at_its_own_pace(processes: Make) -> None:
    process = processes()
    body = b'{"model":"chat","prompt":"a","stream":true}'
    (_, first), (slow, second) = process.ask(body=body), process.ask(body=body)
    stream = process.begun[0].recipient
    stream.start_stream(HERE, b"text/event-stream", b"data: 1\n\n")
    slow.client_reads(ready=False)
    stream.send(b"data: 2\n\n")
    _, third = process.ask(body=body)
    assert (first.body, second.body, third.body) == (b"data: 1\n\ndata: 2\n\n", b"data: 1\n\n", first.body)
    stream.end_stream(b"data: 3\n\n")
    assert (first.ended, third.ended, second.ended) == (1, 1, 0)
    slow.client_reads(ready=True)
    assert (second.body, second.ended) == (first.body, 1)
    await process.jobs.stop()


async def test_a_broken_stream_is_broken_for_all_and_not_kept(processes: Make) -> None:
    process = processes()
    body = b'{"model":"chat","prompt":"a","stream":true}'
    (_, first), (_, second) = process.ask("k", body=body), process.ask("k", body=body)
    stream = process.begun[0].recipient
    stream.start_stream(HERE, b"text/event-stream", b"data: 1\n\n")
    stream.end_stream(b'data: {"error":{"message":"cut"}}\n\n', keep=False)
    assert [client.kept for client in (first, second)] == [False, False]
    process.ask("k", body=body)
    assert len(process.begun) == 2
    await process.jobs.stop()


async def test_a_fault_of_our_own_leaves_nobody_waiting(processes: Make) -> None:
    process = processes()
    (_, first), (_, second) = process.ask("k"), process.ask("k")
    process.begun[0].recipient.abort()
    assert (first.ended, second.ended) == (1, 1)
    process.ask("k")
    assert len(process.begun) == 2
    await process.jobs.stop()


async def test_a_gateway_that_is_asked_for_no_images_keeps_none(processes: Make, tmp_path: Path) -> None:
    process = processes()
    with pytest.raises(RequestError):
        process.look(JOBS_PATH + "imgjob_1")
    assert not (tmp_path / "images").exists()
    await process.jobs.stop()
