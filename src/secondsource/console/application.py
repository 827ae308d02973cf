"""The console's routes on the admin listener: its page, what the page is told, and the chat it asks for."""

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from secondsource import __version__
from secondsource.console.answers import About, LaneInfo
from secondsource.console.assets import Assets
from secondsource.console.chat import Chat
from secondsource.console.pages import BookPages, told
from secondsource.console.plan_page import PlanPage
from secondsource.console.watching import Watching
from secondsource.gateway.admin.application import Shown
from secondsource.gateway.admin.guard import may_change, refusal

PAGE = "index.html"


def make_console(shown: Shown) -> Sequence[BaseRoute]:
    """Return the console's routes."""
    console, books, plan = _Console(shown), BookPages(shown.fleet), PlanPage(shown)
    return [
        Route("/console", console.page),
        Route("/console/", console.page),
        Route("/console/static/{name}", console.static),
        Route("/console/api/about", console.about),
        Route("/console/api/now", console.now),
        Route("/console/api/now/events", console.events),
        Route("/console/api/chat", console.chat, methods=["POST"]),
        Route("/console/api/spend", books.spend),
        Route("/console/api/spend.csv", books.spend_csv),
        Route("/console/api/plan", plan.show),
        Route("/console/api/plan/again", plan.again, methods=["POST"]),
        Route("/console/api/requests", books.requests),
        Route("/console/api/requests/{request_id}/log", books.logged),
    ]


class _Console:
    def __init__(self, shown: Shown) -> None:
        self._shown = shown
        self._chat = Chat(shown.gateway_url)
        self._watching = Watching(shown)
        self._assets = Assets()

    async def page(self, request: Request) -> Response:
        return self._asset(PAGE, request)

    async def static(self, request: Request) -> Response:
        return self._asset(request.path_params["name"], request)

    def _asset(self, name: str, request: Request) -> Response:
        asset = self._assets.answer(name, request)
        return asset or refusal(404, f"the console has no part '{name[:100]}'", code="unknown_url")

    async def about(self, _: Request) -> Response:
        fleet = self._shown.fleet
        return told(
            About(
                version=__version__,
                gateway_url=self._shown.gateway_url,
                models=list(fleet.models),
                lanes=[
                    LaneInfo(name=lane.name, priority=lane.priority, ttft_s=lane.ttft_s, tpot_s=lane.tpot_s)
                    for lane in fleet.lanes
                ],
                suppliers=[supplier.name for supplier in fleet.suppliers],
                chat_needs_key=bool(fleet.keys),
                may_change=may_change(fleet),
                prompts_logged=fleet.logging.prompts,
                state_dir=fleet.state_dir,
            )
        )

    async def now(self, _: Request) -> Response:
        return Response(await self._watching.look_once(), media_type="application/json")

    async def events(self, _: Request) -> Response:
        if self._watching.full:
            return refusal(503, "as many watch as may; close another window", code="too_many_watchers")
        return StreamingResponse(self._watching.events(), media_type="text/event-stream")

    async def chat(self, request: Request) -> Response:
        return await self._chat.answer(request)
