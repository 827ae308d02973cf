"""The pages that read the books: what may be asked of them, checked, and the reading done on a thread of its own."""

import asyncio
import re
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from secondsource.console import finding
from secondsource.console.spend import SHOWN_BY, Span, Spend, as_csv, read_spend
from secondsource.core.errors import InputError
from secondsource.core.fleet import Fleet
from secondsource.gateway.admin.guard import refusal
from secondsource.gateway.books.billing import Dimension
from secondsource.gateway.request_log import RequestLine

ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
OUTCOME = re.compile(r"[a-z_]{0,40}")
MOST_HOURS = 24 * 366
Result = TypeVar("Result")
Choice = TypeVar("Choice", bound=StrEnum)


class LoggedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A request's line of the log."""

    line: RequestLine | None


class BookPages:
    """Answers for the pages Spend and Requests; at most one reading of the books at a time."""

    def __init__(self, fleet: Fleet) -> None:
        self._state_dir = Path(fleet.state_dir)
        self._turn = asyncio.Semaphore(1)

    async def spend(self, request: Request) -> Response:
        """Sums for `span` and `by`."""
        return await self._answer(lambda: told(self._spend(request)))

    async def spend_csv(self, request: Request) -> Response:
        """The same as CSV."""

        def answer() -> Response:
            found = self._spend(request)
            headers = {"content-disposition": f'attachment; filename="spend-{found.span}-by-{found.by}.csv"'}
            return Response(as_csv(found), media_type="text/csv", headers=headers)

        return await self._answer(answer)

    async def requests(self, request: Request) -> Response:
        """Requests by `id` (one or more, or their beginnings), `tenant`, `outcome`, `hours`."""
        return await self._answer(lambda: told(finding.find(self._state_dir, _wanted(request))))

    async def logged(self, request: Request) -> Response:
        """A request's line of the log; null where the newest part of it has none."""
        request_id = request.path_params["request_id"]
        line = None
        if ID.fullmatch(request_id):
            line = await asyncio.to_thread(finding.logged, self._state_dir, request_id)
        return told(LoggedAnswer(line=line))

    def _spend(self, request: Request) -> Spend:
        by = _choice(request, "by", Dimension, Dimension.SUPPLIER)
        if by not in SHOWN_BY:
            raise InputError(f"by={by}: expected one of {', '.join(SHOWN_BY)}")
        return read_spend(self._state_dir, _choice(request, "span", Span, Span.WEEK), by)

    async def _answer(self, work: Callable[[], Response]) -> Response:
        try:
            async with self._turn:
                return await asyncio.to_thread(work)
        except InputError as error:
            return refusal(400, str(error), code="bad_request")


def told(answer: msgspec.Struct) -> Response:
    """Return a record as JSON."""
    return Response(msgspec.json.encode(answer), media_type="application/json")


def _choice(request: Request, name: str, kind: type[Choice], default: Choice) -> Choice:
    given = request.query_params.get(name)
    if given is None:
        return default
    try:
        return kind(given)
    except ValueError:
        raise InputError(f"{name}={given[:50]}: expected one of {', '.join(kind)}") from None


def _wanted(request: Request) -> finding.Wanted:
    asked = request.query_params
    ids = tuple(part.strip() for part in asked.get("id", "").split(",") if part.strip())[: finding.MOST_IDS]
    if not all(ID.fullmatch(part) for part in ids):
        raise InputError("id: expected the beginning of a request's id (req_...), or some with commas between")
    outcome, hours = asked.get("outcome", ""), asked.get("hours", "24")
    if not OUTCOME.fullmatch(outcome):
        raise InputError("outcome: expected one of the ledger's, failover or refused")
    if not hours.isdigit() or not 1 <= int(hours) <= MOST_HOURS:
        raise InputError(f"hours: expected a whole number from 1 to {MOST_HOURS}")
    return finding.Wanted(ids=ids, tenant=asked.get("tenant", "")[:200], outcome=outcome, hours=int(hours))
