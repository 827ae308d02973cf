"""The admin listener's pages: metrics, one request's attempts, replicas, the fleet, and the API's description."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence

import msgspec
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from secondsource.core.fleet import Fleet
from secondsource.gateway.admin.answers import (
    Health,
    LanesAnswer,
    PlugAnswer,
    ReplicasAnswer,
    RequestAnswer,
    SuppliersAnswer,
    attempt_answer,
    fleet_answer,
    supplier_answers,
)
from secondsource.gateway.admin.guard import Guard, refusal, require_change
from secondsource.gateway.admin.metrics import MetricsCollector, make_registry
from secondsource.gateway.admin.openapi import describe
from secondsource.gateway.books.books import Books
from secondsource.gateway.meter import Meter
from secondsource.policy.views import FlowView, LaneView, ReplicaView, RequestView, SupplierView, WorkerView

REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{1,128}")


MakeConsole = Callable[["Shown"], Sequence[BaseRoute]]


async def _is_fresh() -> None:
    """Return at once: what one process shows is as it stands."""


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """What the admin listener shows, and where it reads it."""

    fleet: Fleet
    meter: Meter
    books: Books
    replicas: Callable[[], Sequence[ReplicaView]]
    running: Callable[[str], Awaitable[RequestView | None]]  # by request id
    flows: Callable[[], Sequence[FlowView]]  # what is being answered now
    plug: Callable[[str, bool], Awaitable[int]]  # a supplier, and whether it may serve; how many attempts that cut
    gateway_url: str
    admin_url: str
    lanes: Callable[[], Sequence[LaneView]] = tuple
    suppliers: Callable[[], Sequence[SupplierView]] = tuple
    workers: Callable[[], Sequence[WorkerView]] = tuple  # none where one process does all
    refresh: Callable[[], Awaitable[None]] = _is_fresh  # awaited before the rest is read: it may be gathered first
    make_console: MakeConsole | None = None  # makes the console's routes, if there is to be one


def build_admin(shown: Shown) -> ASGIApp:
    """Return the admin listener's application, with a console where there is one; every path is guarded."""
    pages = _Pages(shown)
    console = [] if shown.make_console is None else shown.make_console(shown)
    app = Starlette(
        routes=[
            *console,
            Route("/metrics", pages.metrics),
            Route("/health", pages.health),
            Route("/openapi.json", pages.openapi),
            Route("/admin/replicas", pages.replicas),
            Route("/admin/lanes", pages.lanes),
            Route("/admin/fleet", pages.fleet),
            Route("/admin/suppliers", pages.suppliers),
            Route("/admin/suppliers/{supplier}/unplug", pages.unplug, methods=["POST"]),
            Route("/admin/suppliers/{supplier}/plug", pages.plug, methods=["POST"]),
            Route("/admin/requests/{request_id:path}", pages.request),
        ],
        exception_handlers={HTTPException: _http_error, Exception: _our_error},
    )
    return Guard(app, shown.fleet.admin, lambda path: shown.make_console is not None and _is_console_page(path))


def _is_console_page(path: str) -> bool:
    """Return whether a path is the console's page or a part of it, in which there is nothing of the fleet."""
    return path in ("/console", "/console/") or path.startswith("/console/static/")


class _Pages:
    def __init__(self, shown: Shown) -> None:
        self._shown = shown
        self._registry = make_registry(
            MetricsCollector(
                *(shown.meter, shown.replicas, lambda: shown.books.status, shown.lanes, shown.suppliers),
                shown.workers,
            )
        )
        self._openapi = msgspec.json.encode(describe(shown.fleet, shown.gateway_url, shown.admin_url))

    async def metrics(self, request: Request) -> Response:
        await self._shown.refresh()
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        page = await asyncio.to_thread(encode, self._registry)  # tens of milliseconds for a large fleet
        return Response(page, headers={"content-type": content_type})

    async def health(self, _: Request) -> Response:
        return _json(Health())

    async def openapi(self, _: Request) -> Response:
        return Response(self._openapi, media_type="application/json")

    async def replicas(self, _: Request) -> Response:
        await self._shown.refresh()
        return _json(ReplicasAnswer(replicas=list(self._shown.replicas())))

    async def lanes(self, _: Request) -> Response:
        await self._shown.refresh()
        return _json(LanesAnswer(lanes=list(self._shown.lanes())))

    async def fleet(self, _: Request) -> Response:
        return _json(fleet_answer(self._shown.fleet))

    async def suppliers(self, _: Request) -> Response:
        await self._shown.refresh()
        return _json(
            SuppliersAnswer(
                suppliers=supplier_answers(self._shown.fleet, self._shown.replicas(), self._shown.suppliers())
            )
        )

    async def unplug(self, request: Request) -> Response:
        return await self._plug(request, plugged=False)

    async def plug(self, request: Request) -> Response:
        return await self._plug(request, plugged=True)

    async def _plug(self, request: Request, *, plugged: bool) -> Response:
        refused = require_change(request, self._shown.fleet)
        if refused is not None:
            return refused
        supplier, known = request.path_params["supplier"], [one.name for one in self._shown.fleet.suppliers]
        if supplier not in known:
            message = f"there is no supplier '{supplier[:128]}'; there is: {', '.join(known)}"
            return refusal(404, message, code="supplier_not_found")
        cut = await self._shown.plug(supplier, plugged)
        return _json(PlugAnswer(supplier=supplier, plugged=plugged, attempts_cut=cut))

    async def request(self, request: Request) -> Response:
        request_id = request.path_params["request_id"]
        known = REQUEST_ID.fullmatch(request_id) is not None
        running = await self._shown.running(request_id) if known else None
        attempts = await self._shown.books.attempts_of(request_id) if known else []
        if running is None and not attempts:
            message = f"no attempt of a request '{request_id[:128]}' is in the ledger"
            return refusal(404, message, code="request_not_found")
        answered = [attempt_answer(attempt) for attempt in attempts]
        return _json(RequestAnswer(request_id=request_id, running=running, attempts=answered))


def _json(answer: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(answer), media_type="application/json")


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = {404: "unknown_url", 405: "method_not_allowed"}.get(error.status_code, "error")
    response = refusal(error.status_code, f"{request.method} {request.url.path[:200]}: {error.detail}", code=code)
    response.headers.update(error.headers or {})
    return response


async def _our_error(_: Request, error: Exception) -> Response:
    return refusal(500, f"the admin listener failed: {type(error).__name__}", code="internal_error")
