"""Answers for the page Plan."""

import asyncio
import importlib.util
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from secondsource.console.now import look
from secondsource.console.pages import told
from secondsource.console.planning_again import plan_again
from secondsource.console.standing import Standing, measure, stand
from secondsource.console.window import Window
from secondsource.core.errors import SecondsourceError
from secondsource.gateway.admin.application import Shown
from secondsource.gateway.admin.guard import refusal, require_change
from secondsource.planner.kept import KeptPlan, read_kept


class PlanAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What the page shows."""

    standing: Standing | None


class PlanPage:
    """Holds the kept plan against what is; plans again one at a time."""

    def __init__(self, shown: Shown) -> None:
        self._shown = shown
        self._state_dir = Path(shown.fleet.state_dir)
        self._planning = asyncio.Lock()

    async def show(self, _: Request) -> Response:
        """The plan beside what is; null where none is kept."""
        try:
            found = await self._stand()
        except SecondsourceError as error:
            return refusal(400, str(error), code="bad_plan")
        return told(PlanAnswer(standing=None if found is None else found[1]))

    async def again(self, request: Request) -> Response:
        """What a new plan for the measured demand would change."""
        refused = require_change(request, self._shown.fleet)
        if refused is not None:
            return refused
        if importlib.util.find_spec("highspy") is None:
            message = "planning needs the solver, which is not installed: pip install 'secondsource[plan]'"
            return refusal(501, message, code="no_solver")
        if self._planning.locked():
            return refusal(409, "a plan is being made already", code="planning_already")
        async with self._planning:
            try:
                found = await self._stand()
                if found is None:
                    return refusal(404, "no plan is kept beside the ledger", code="no_plan")
                return told(await plan_again(*found))
            except SecondsourceError as error:
                return refusal(400, str(error), code="no_plan")

    async def _stand(self) -> tuple[KeptPlan, Standing] | None:
        kept = await asyncio.to_thread(read_kept, self._state_dir)
        if kept is None:
            return None
        measured = await asyncio.to_thread(measure, self._state_dir)
        await self._shown.refresh()
        now = look(self._shown, Window(self._shown.fleet.lanes))
        return kept, stand(kept, self._shown.fleet, now, measured, datetime.now(UTC))
