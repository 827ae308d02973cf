"""The service: who may ask, what it answers itself, and what one request's fault does to the others."""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from secondsource.core.errors import InputError
from secondsource.core.fleet import AdminListener, Key, Listener
from secondsource.gateway.exchange import Exchange
from secondsource.gateway.service import Service
from tests.fleets import MODEL, fleet, pool

TOKEN = "sk-test"
KEY = Key(sha256=hashlib.sha256(TOKEN.encode()).hexdigest(), tenant="acme", lane="default")
ASK = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
ANSWER = b'{"choices":[{"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1}}'


async def replica(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one request of any kind."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        head = await reader.readuntil(b"\r\n\r\n")
        length = next((int(line[16:]) for line in head.split(b"\r\n") if line.startswith(b"content-length: ")), 0)
        await reader.readexactly(length)
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/json\r\n")
        writer.write(b"content-length: %d\r\n\r\n" % len(ANSWER) + ANSWER)
        await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def serving(directory: Path, *, up: bool = True, **changes: Any) -> AsyncIterator[Service]:
    """A service over one replica that answers, or is not there."""
    server = await asyncio.start_server(replica, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    if not up:
        server.close()
        await server.wait_closed()
    listening = Listener(host="127.0.0.1", port=0)
    admin = AdminListener(host="127.0.0.1", port=0)
    only = pool("a", replicas=(f"http://127.0.0.1:{port}",))
    service = Service(fleet(only, gateway=listening, admin=admin, state_dir=str(directory), **changes), {})
    await service.start()
    try:
        yield service
    finally:
        await service.stop(1.0)
        server.close()


async def ask(
    service: Service, method: str, path: str, body: Any = None, token: str | None = None
) -> tuple[int, dict[str, str], Any]:
    """Send one request; the status is 0 when the connection was cut."""
    port = int(service.gateway_url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    raw = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "host: x", "connection: close", f"content-length: {len(raw)}"]
    lines += [f"authorization: {token}"] if token is not None else []
    writer.write("\r\n".join([*lines, "", ""]).encode() + raw)
    async with asyncio.timeout(10):
        try:
            whole = await reader.read()
        except ConnectionError:
            whole = b""
    writer.close()
    head, _, rest = whole.partition(b"\r\n\r\n")
    if not head:
        return 0, {}, None
    status, *headers = head.decode().split("\r\n")
    named = dict(line.split(": ", 1) for line in headers)
    return int(status.split()[1]), named, json.loads(rest) if rest else None


async def test_it_answers_and_says_who_did(tmp_path: Path) -> None:
    async with serving(tmp_path) as service:
        status, headers, answer = await ask(service, "POST", "/v1/chat/completions", ASK)
        assert (status, answer) == (200, json.loads(ANSWER))
        assert headers["x-secondsource-pool"] == "a"
        assert headers["x-request-id"].startswith("req_")
        assert service.exchanges == {}


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "unknown_url"),
        ("GET", "/v1/chat/completions", 405, None),
        ("POST", "/health", 405, None),
        ("DELETE", "/v1/models", 405, None),
        ("GET", "/v1/models/none", 404, "model_not_found"),
        ("POST", "/v1/chat/completions", 400, None),
    ],
)
async def test_wrong_requests_get_openais_error(
    tmp_path: Path, method: str, path: str, status: int, code: str | None
) -> None:
    async with serving(tmp_path) as service:
        got, headers, answer = await ask(service, method, path)
        assert (got, answer["error"]["code"]) == (status, code)
        assert answer["error"].keys() == {"message", "type", "param", "code"}
        assert "x-request-id" in headers
        assert ("allow" in headers) is (status == 405)


async def test_an_unknown_model_is_named_with_those_that_are(tmp_path: Path) -> None:
    async with serving(tmp_path) as service:
        status, _, answer = await ask(service, "POST", "/v1/chat/completions", ASK | {"model": "gpt"})
        assert (status, answer["error"]["param"]) == (404, "model")
        assert "'gpt'" in answer["error"]["message"]
        assert MODEL in answer["error"]["message"]


@pytest.mark.parametrize(
    ("token", "status"),
    [
        (None, 401),
        ("", 401),
        ("Bearer", 401),
        ("Bearer ", 401),
        ("Basic sk-test", 401),
        ("Bearer sk-wrong", 401),
        (f"Bearer {KEY.sha256}", 401),
        ("Bearer sk-test", 200),
        ("bearer  sk-test", 200),
    ],
)
async def test_with_keys_every_request_needs_one(tmp_path: Path, token: str | None, status: int) -> None:
    async with serving(tmp_path, keys=(KEY,)) as service:
        for method, path, body in (("POST", "/v1/chat/completions", ASK), ("GET", "/v1/models", None)):
            got, headers, _ = await ask(service, method, path, body, token)
            assert got == status
            assert ("www-authenticate" in headers) is (status == 401)
        assert (await ask(service, "GET", "/health"))[0] == 200


async def test_models_health_and_readiness(tmp_path: Path) -> None:
    async with serving(tmp_path) as service:
        assert [model["id"] for model in (await ask(service, "GET", "/v1/models"))[2]["data"]] == [MODEL]
        assert (await ask(service, "GET", f"/v1/models/{MODEL}"))[2]["id"] == MODEL
        assert (await ask(service, "GET", "/ready"))[0] == 200
        head = await ask(service, "HEAD", "/health")
        assert (head[0], head[2]) == (200, None)


async def test_it_is_alive_and_not_ready_while_no_replica_is_well(tmp_path: Path) -> None:
    async with serving(tmp_path, up=False) as service:
        assert (await ask(service, "GET", "/health"))[0] == 200
        status, _, answer = await ask(service, "GET", "/ready")
        assert (status, answer["error"]["code"]) == (503, "not_ready")


async def test_a_port_that_is_taken_is_the_users_to_change(tmp_path: Path) -> None:
    async with serving(tmp_path / "one") as service:
        port = int(service.gateway_url.rpartition(":")[2])
        other = Service(
            fleet(pool("a"), gateway=Listener(host="127.0.0.1", port=port), state_dir=str(tmp_path / "two")), {}
        )
        with pytest.raises(InputError, match="taken by another program"):
            await other.start()


async def test_a_fault_at_a_requests_start_ends_it_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start = Exchange.start

    def started(exchange: Exchange) -> None:
        start(exchange)
        if exchange.ask.raw("user"):
            raise RuntimeError("played")

    monkeypatch.setattr(Exchange, "start", started)
    async with serving(tmp_path) as service:
        assert (await ask(service, "POST", "/v1/chat/completions", ASK | {"user": "x"}))[0] == 0
        assert [replica.in_flight for replica in service.router.replicas] == [0]
        assert (await ask(service, "POST", "/v1/chat/completions", ASK))[0] == 200
        assert service.exchanges == {}
    assert "RuntimeError: played" in caplog.text


async def test_a_fault_at_a_requests_deadline_stops_no_others_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start, passed = Exchange.start, Exchange.deadline_passed

    def started(exchange: Exchange) -> None:
        if not exchange.ask.raw("user"):
            start(exchange)
        exchange.deadline = 0.0

    def broken(exchange: Exchange, now: float) -> None:
        if exchange.ask.raw("user"):
            raise RuntimeError("played")
        passed(exchange, now)

    monkeypatch.setattr(Exchange, "start", started)
    monkeypatch.setattr(Exchange, "deadline_passed", broken)
    async with serving(tmp_path) as service:
        for _ in range(2):
            assert (await ask(service, "POST", "/v1/chat/completions", ASK | {"user": "x"}))[0] == 0
        assert service.exchanges == {}
    assert caplog.text.count("RuntimeError: played") == 2
