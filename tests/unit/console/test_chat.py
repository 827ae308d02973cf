"""The page's way to the gateway: what it will not carry."""

from collections.abc import AsyncIterator

import httpx
from starlette.applications import Starlette
from starlette.routing import Route

from secondsource.console.chat import MOST_ASKED, Chat

PIECE = b"x" * 65_536


async def test_a_body_without_end_is_read_no_further_than_the_limit() -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 4 * MOST_ASKED:
            sent += len(PIECE)
            yield PIECE

    app = Starlette(routes=[Route("/chat", Chat("http://127.0.0.1:9").answer, methods=["POST"])])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://console") as client:
        answer = await client.post("/chat", content=endless())
    assert answer.status_code == 413
    assert sent <= MOST_ASKED + len(PIECE)
