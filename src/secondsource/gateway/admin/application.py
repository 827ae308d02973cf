"""The admin listener's pages: metrics, one request's attempts, replicas, the fleet, and the API's description."""

import asyncio
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Sequence
from importlib.resources import files

import msgspec
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from secondsource.core.addresses import is_loopback
from secondsource.core.fleet import AdminListener, Fleet
from secondsource.gateway.admin.answers import (
    Health,
    ReplicasAnswer,
    RequestAnswer,
    attempt_answer,
    fleet_answer,
)
from secondsource.gateway.admin.metrics import MetricsCollector, make_registry
from secondsource.gateway.admin.openapi import describe
from secondsource.gateway.books.books import Books
from secondsource.gateway.meter import Meter
from secondsource.gateway.wire.errors import error_body
from secondsource.policy.views import ReplicaView, RequestView

REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{1,128}")
HOST = re.compile(r"(?:\[(?P<address>[0-9A-Fa-f:.]+)\]|(?P<name>[^:\[\]]+))(?::\d{1,5})?")
CONSOLE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """What the admin listener shows, and where it reads it."""

    fleet: Fleet
    meter: Meter
    books: Books
    replicas: Callable[[], Sequence[ReplicaView]]
    running: Callable[[str], RequestView | None]  # by request id
    gateway_url: str
    admin_url: str


def build_admin(shown: Shown) -> ASGIApp:
    """Return the admin listener's application; every path is guarded."""
    pages = _Pages(shown)
    app = Starlette(
        routes=[
            Route("/metrics", pages.metrics),
            Route("/health", pages.health),
            Route("/openapi.json", pages.openapi),
            Route("/console", pages.console),
            Route("/admin/replicas", pages.replicas),
            Route("/admin/fleet", pages.fleet),
            Route("/admin/requests/{request_id:path}", pages.request),
        ],
        exception_handlers={HTTPException: _http_error, Exception: _our_error},
    )
    return Guard(app, shown.fleet.admin)


class Guard:
    """Lets nobody in without the key, and no web page of another origin in by a rebound name.

    A browser sends the name it looked up as `Host`, so a page that makes its own name point to 127.0.0.1 still
    asks for its own name; on loopback only loopback's own names are answered.
    """

    def __init__(self, app: ASGIApp, listener: AdminListener) -> None:
        self._app = app
        self._key_sha256 = listener.key_sha256
        self._names = {listener.host.lower(), "localhost"} if is_loopback(listener.host) else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on to the application."""
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                answered = MutableHeaders(scope=message)
                answered["x-request-id"] = f"adm_{secrets.token_hex(12)}"
                answered["cache-control"] = "no-store"
                answered["x-content-type-options"] = "nosniff"
            await send(message)

        answer: ASGIApp = self._app
        if not self._knows(headers.get("host", "")):
            message = "this listener answers to loopback names only, such as http://127.0.0.1 or http://localhost"
            answer = _error(403, message, code="host_not_allowed")
        elif not self._holds_key(headers.get("authorization", "")):
            answer = _error(
                401, "the admin listener needs its key: 'Authorization: Bearer KEY'", code="invalid_api_key"
            )
            answer.headers["www-authenticate"] = "Bearer"
        await answer(scope, receive, send_with_headers)

    def _knows(self, host: str) -> bool:
        if self._names is None:
            return True
        parts = HOST.fullmatch(host)
        if parts is None:
            return False
        name = (parts["address"] or parts["name"]).lower()
        return name in self._names or is_loopback(name)

    def _holds_key(self, authorization: str) -> bool:
        if self._key_sha256 is None:
            return True
        scheme, _, token = authorization.partition(" ")
        digest = hashlib.sha256(token.strip().encode("latin-1", "replace")).hexdigest()
        return hmac.compare_digest(digest, self._key_sha256) and scheme.lower() == "bearer"


class _Pages:
    def __init__(self, shown: Shown) -> None:
        self._shown = shown
        self._registry = make_registry(MetricsCollector(shown.meter, shown.replicas, lambda: shown.books.status))
        self._openapi = msgspec.json.encode(describe(shown.fleet, shown.gateway_url, shown.admin_url))

    async def metrics(self, request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        page = await asyncio.to_thread(encode, self._registry)  # tens of milliseconds for a large fleet
        return Response(page, headers={"content-type": content_type})

    async def health(self, _: Request) -> Response:
        return _json(Health())

    async def openapi(self, _: Request) -> Response:
        return Response(self._openapi, media_type="application/json")

    async def console(self, _: Request) -> Response:
        page = files("secondsource.gateway.admin").joinpath("console.html").read_bytes()
        return Response(page, media_type="text/html", headers={"content-security-policy": CONSOLE_POLICY})

    async def replicas(self, _: Request) -> Response:
        return _json(ReplicasAnswer(replicas=list(self._shown.replicas())))

    async def fleet(self, _: Request) -> Response:
        return _json(fleet_answer(self._shown.fleet))

    async def request(self, request: Request) -> Response:
        request_id = request.path_params["request_id"]
        known = REQUEST_ID.fullmatch(request_id) is not None
        running = self._shown.running(request_id) if known else None
        attempts = await self._shown.books.attempts_of(request_id) if known else []
        if running is None and not attempts:
            message = f"no attempt of a request '{request_id[:128]}' is in the ledger"
            return _error(404, message, code="request_not_found")
        answered = [attempt_answer(attempt) for attempt in attempts]
        return _json(RequestAnswer(request_id=request_id, running=running, attempts=answered))


def _json(answer: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(answer), media_type="application/json")


def _error(status: int, message: str, *, code: str) -> Response:
    return Response(error_body(status, message, code=code), status, media_type="application/json")


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = {404: "unknown_url", 405: "method_not_allowed"}.get(error.status_code, "error")
    response = _error(error.status_code, f"{request.method} {request.url.path[:200]}: {error.detail}", code=code)
    response.headers.update(error.headers or {})
    return response


async def _our_error(_: Request, error: Exception) -> Response:
    return _error(500, f"the admin listener failed: {type(error).__name__}", code="internal_error")
