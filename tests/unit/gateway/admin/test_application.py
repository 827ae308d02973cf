"""The admin listener: what it shows, what it never shows, and whom it answers."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from secondsource.core.errors import InputError
from secondsource.core.fleet import AdminListener, Fleet, Key, Lane, Pool, Price, Supplier
from secondsource.core.records import Kind, Outcome
from secondsource.gateway.admin.application import Shown, build_admin
from secondsource.gateway.admin.server import AdminServer
from secondsource.gateway.books.books import Books
from secondsource.gateway.meter import Meter
from secondsource.policy.circuit import CircuitState
from secondsource.policy.views import ReplicaView, RequestView
from tests.ledger_records import noted, reserved, settled

ADMIN_KEY = "sk-ss-admin-secret"
ADMIN_KEY_SHA256 = hashlib.sha256(ADMIN_KEY.encode()).hexdigest()
CLIENT_KEY_SHA256 = hashlib.sha256(b"sk-ss-client-secret").hexdigest()
PATHS = ("/metrics", "/health", "/openapi.json", "/console", "/admin/replicas", "/admin/fleet")


def make_fleet(state_dir: Path, listener: AdminListener) -> Fleet:
    pool = Pool(
        name="azure-h100",
        supplier="azure",
        chip="h100-sxm",
        model="chat",
        upstream_model="gemma",
        replicas=("http://127.0.0.1:9001",),
        price=Price(nano_usd_per_replica_hour=55_840_000_000),
        api_key_env="AZURE_KEY",
    )
    return Fleet(
        admin=listener,
        state_dir=str(state_dir),
        suppliers=(Supplier(name="azure"),),
        pools=(pool,),
        lanes=(Lane(name="paid"),),
        keys=(Key(sha256=CLIENT_KEY_SHA256, tenant="acme", lane="paid"),),
    )


async def running(request_id: str) -> RequestView | None:
    if request_id != "running":
        return None
    return RequestView(
        request_id=request_id,
        tenant="acme",
        lane="paid",
        endpoint="/v1/chat/completions",
        model="chat",
        waiting=True,
        tokens_delivered=0,
        running_for_s=0.5,
    )


REPLICA = ReplicaView(
    pool="azure-h100",
    supplier="azure",
    chip="h100-sxm",
    model="chat",
    replica="http://127.0.0.1:9001",
    in_flight=2,
    circuit=CircuitState.OPEN,
    engine="vllm",
    next_probe_in_s=0.25,
)


async def plug(supplier: str, plugged: bool) -> int:
    return 0 if plugged else 3


@pytest.fixture
async def books(tmp_path: Path) -> AsyncIterator[Books]:
    books = Books(tmp_path)
    await books.start()
    yield books
    await books.stop()


def client_of(books: Books, state_dir: Path, listener: AdminListener, **headers: str) -> httpx.AsyncClient:
    shown = Shown(
        fleet=make_fleet(state_dir, listener),
        meter=Meter(("chat",), ("paid",)),
        books=books,
        replicas=lambda: [REPLICA],
        running=running,
        flows=list,
        plug=plug,
        gateway_url="http://127.0.0.1:8080",
        admin_url="http://127.0.0.1:8081",
    )
    transport = httpx.ASGITransport(build_admin(shown))
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8081", headers=headers)


@pytest.fixture
async def client(books: Books, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(books, tmp_path, AdminListener(host="127.0.0.1", port=8081)) as client:
        yield client


def assert_error(response: httpx.Response, status: int, code: str) -> str:
    assert response.status_code == status
    error: dict[str, Any] = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["code"] == code
    assert response.headers["x-request-id"]
    return str(error["message"])


async def test_a_requests_attempts_are_told_with_what_they_cost(client: httpx.AsyncClient, books: Books) -> None:
    books.append(reserved("req_1"))
    books.append(settled("req_1", outcome=Outcome.CUT, tenant_nano_usd=0))
    books.append(reserved("req_1", number=2, kind=Kind.CONTINUATION))
    books.append(noted("req_1", number=2))
    answer = (await client.get("/admin/requests/req_1")).json()
    assert (answer["request_id"], answer["running"]) == ("req_1", None)
    first, second = answer["attempts"]
    assert (first["outcome"], first["cost_usd"], first["tenant_usd"]) == ("cut", "0.000001234", "0.000000000")
    assert (first["at"], first["duration_s"]) == ("2023-11-14T22:13:20Z", 2.0)
    assert (second["kind"], second["outcome"], second["tokens_out"]) == ("continuation", None, 5)
    assert second["settled_at"] is None


async def test_a_request_that_waits_for_its_first_attempt_is_found(client: httpx.AsyncClient) -> None:
    answer = (await client.get("/admin/requests/running")).json()
    assert answer["running"]["waiting"] is True
    assert answer["attempts"] == []


@pytest.mark.parametrize("request_id", ["unknown", "%00", "..%2F..%2Fetc", "a" * 5000, "%ff%fe", "a/b"])
async def test_a_request_nobody_made_is_not_found(client: httpx.AsyncClient, request_id: str) -> None:
    message = assert_error(await client.get(f"/admin/requests/{request_id}"), 404, "request_not_found")
    assert len(message) < 300


async def test_replicas_are_told_as_they_stand(client: httpx.AsyncClient) -> None:
    [replica] = (await client.get("/admin/replicas")).json()["replicas"]
    assert (replica["circuit"], replica["in_flight"], replica["engine"]) == ("open", 2, "vllm")
    assert replica["next_probe_in_s"] == 0.25


async def test_pulling_a_plug_is_for_a_fleet_without_keys_or_an_admin_key(books: Books, tmp_path: Path) -> None:
    local = AdminListener(host="127.0.0.1", port=8081)
    async with client_of(books, tmp_path, local) as client:
        [supplier] = (await client.get("/admin/suppliers")).json()["suppliers"]
        assert (supplier["name"], supplier["plugged"], supplier["in_flight"]) == ("azure", True, 2)
        assert_error(await client.post("/admin/suppliers/azure/unplug"), 403, "read_only")
    keyed = AdminListener(host="127.0.0.1", port=8081, key_sha256=ADMIN_KEY_SHA256)
    async with client_of(books, tmp_path, keyed, authorization=f"Bearer {ADMIN_KEY}") as client:
        pulled = (await client.post("/admin/suppliers/azure/unplug")).json()
        assert pulled == {"supplier": "azure", "plugged": False, "attempts_cut": 3}
        assert (await client.post("/admin/suppliers/azure/plug")).json()["plugged"] is True
        assert_error(await client.post("/admin/suppliers/aws/unplug"), 404, "supplier_not_found")
        assert_error(await client.get("/admin/suppliers/azure/unplug"), 405, "method_not_allowed")


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "http://127.0.0.1:8080"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
async def test_no_foreign_page_may_pull_a_plug(books: Books, tmp_path: Path, headers: dict[str, str]) -> None:
    keyed = AdminListener(host="127.0.0.1", port=8081, key_sha256=ADMIN_KEY_SHA256)
    async with client_of(books, tmp_path, keyed, authorization=f"Bearer {ADMIN_KEY}") as client:
        assert_error(await client.post("/admin/suppliers/azure/unplug", headers=headers), 403, "origin_not_allowed")
        ours = {"origin": "http://127.0.0.1:8081", "sec-fetch-site": "same-origin"}
        assert (await client.post("/admin/suppliers/azure/unplug", headers=ours)).status_code == 200


async def test_the_fleet_is_told_without_secrets(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_KEY", "azure-secret")
    response = await client.get("/admin/fleet")
    fleet = response.json()
    assert fleet["keys"] == [{"key_id": CLIENT_KEY_SHA256[:12], "tenant": "acme", "lane": "paid"}]
    assert fleet["pools"][0]["usd_per_replica_hour"] == "55.840000000"
    assert fleet["pools"][0]["api_key_env"] == "AZURE_KEY"
    assert CLIENT_KEY_SHA256 not in response.text
    assert "azure-secret" not in response.text


async def test_metrics_are_text_for_prometheus(client: httpx.AsyncClient) -> None:
    response = await client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    assert 'secondsource_in_flight{chip="h100-sxm",pool="azure-h100",supplier="azure"} 2.0' in response.text
    wanted = "application/openmetrics-text; version=1.0.0"
    response = await client.get("/metrics", headers={"accept": wanted})
    assert response.headers["content-type"].startswith("application/openmetrics-text")
    assert response.text.endswith("# EOF\n")


async def test_without_a_console_there_is_none(client: httpx.AsyncClient) -> None:
    assert (await client.get("/console")).status_code == 404


async def test_errors_have_openais_shape(client: httpx.AsyncClient) -> None:
    assert_error(await client.get("/nothing"), 404, "unknown_url")
    response = await client.post("/metrics")
    assert_error(response, 405, "method_not_allowed")
    assert "GET" in response.headers["allow"]


async def test_an_error_of_ours_says_no_more_than_its_kind(
    client: httpx.AsyncClient, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: object, request_id: str) -> None:
        raise ValueError("secret detail")

    monkeypatch.setattr(Books, "attempts_of", fail)
    client._transport.raise_app_exceptions = False  # type: ignore[attr-defined]
    message = assert_error(await client.get("/admin/requests/r1"), 500, "internal_error")
    assert "secret" not in message


@pytest.mark.parametrize("path", [*PATHS, "/admin/requests/r1", "/nothing"])
async def test_with_a_key_configured_every_path_needs_it(books: Books, tmp_path: Path, path: str) -> None:
    listener = AdminListener(host="0.0.0.0", port=8081, key_sha256=ADMIN_KEY_SHA256)
    async with client_of(books, tmp_path, listener) as client:
        for header in ("", "Bearer", "Bearer wrong", f"Basic {ADMIN_KEY}", f"Bearer {ADMIN_KEY_SHA256}", "Bearer é"):
            response = await client.get(path, headers={"authorization": header.encode("latin-1")})
            assert_error(response, 401, "invalid_api_key")
            assert response.headers["www-authenticate"] == "Bearer"
        response = await client.get(path, headers={"authorization": f"Bearer {ADMIN_KEY}", "host": "gateway.internal"})
        assert response.status_code in (200, 404)


@pytest.mark.parametrize("host", ["127.0.0.1:8081", "localhost", "LocalHost:1", "[::1]:8081", "127.9.9.9"])
async def test_loopback_names_are_answered(client: httpx.AsyncClient, host: str) -> None:
    assert (await client.get("/health", headers={"host": host})).json() == {"status": "ok"}


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example:8081", "", "localhost.evil.example", "[::1", "10.0.0.1"]
)
async def test_a_name_rebound_to_loopback_is_refused(client: httpx.AsyncClient, host: str) -> None:
    assert_error(await client.get("/admin/fleet", headers={"host": host}), 403, "host_not_allowed")


async def test_the_server_starts_serves_and_stops_in_the_running_loop(books: Books, tmp_path: Path) -> None:
    server = AdminServer("127.0.0.1", 0)
    shown = Shown(
        fleet=make_fleet(tmp_path, AdminListener(host="127.0.0.1", port=0)),
        meter=Meter(("chat",), ("paid",)),
        books=books,
        replicas=list,
        running=running,
        flows=list,
        plug=plug,
        gateway_url="http://127.0.0.1:8080",
        admin_url=f"http://127.0.0.1:{server.port}",
    )
    await server.start(build_admin(shown))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client:
        assert (await client.get("/health")).json() == {"status": "ok"}
        assert (await client.get("/openapi.json")).json()["openapi"] == "3.1.0"
    await server.stop()
    async with httpx.AsyncClient() as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(f"http://127.0.0.1:{server.port}/health")


async def test_stopping_ends_the_streams_of_those_who_watch_without_an_error(
    books: Books, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = AdminServer("127.0.0.1", 0)

    async def forever() -> AsyncIterator[bytes]:
        yield b"first"
        await asyncio.Event().wait()

    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        await StreamingResponse(forever())(scope, receive, send)

    await server.start(stream)
    async with (
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client,
        client.stream("GET", "/") as response,
    ):
        pieces = response.aiter_raw()
        assert await anext(pieces) == b"first"
        await server.stop()
        assert [piece async for piece in pieces] == []
    assert caplog.records == []


async def test_a_port_that_is_taken_is_named() -> None:
    first = AdminServer("127.0.0.1", 0)
    with pytest.raises(InputError, match=rf"127\.0\.0\.1:{first.port}.*--admin-port"):
        AdminServer("127.0.0.1", first.port)
    await first.stop()
