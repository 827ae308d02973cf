"""A preferred replica, a second source and a gateway over both: the stage of most tests of failover."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from tests.faults.fault import HEALTHY, Fault
from tests.faults.harness import Gateway
from tests.faults.judge import assert_whole
from tests.faults.language_model import ask
from tests.faults.raw_client import Received
from tests.faults.wall import Wall


@dataclass
class Pair:
    """Two replicas of one model at two suppliers; the gateway prefers the first."""

    first: Wall
    second: Wall
    gateway: Gateway

    async def first_is_asked(self) -> bool:
        """Send a request; whether the preferred replica was asked for it."""
        before = len(self.first.seen)
        body = ask(f"asked {time.monotonic()}", size=20)
        assert_whole(await self.gateway.ask(body), body)
        return len(self.first.seen) > before

    async def calm(self) -> None:
        """Let the preferred replica show itself well, so that the faults of several tests do not add up."""
        for wall in (self.first, self.second):
            wall.script.clear()
            wall.otherwise, wall.pace = HEALTHY, 0.0
        for _ in range(2):
            await until(self.first_is_asked, seconds=30)

    async def broken(self, body: dict[str, Any], fault: Fault) -> Received:
        """Let `fault` strike the first replica's answer; the client gets the undisturbed one, from one more ask."""
        asked = len(self.first.seen), len(self.second.seen)
        self.first.plan(fault)
        received = await self.gateway.ask(body)
        assert len(self.first.seen) == asked[0] + 1, f"the first replica was asked {len(self.first.seen) - asked[0]}×"
        assert self.first.seen[-1].fault is fault
        assert_whole(received, body)
        assert len(self.second.seen) == asked[1] + 1, f"the second was asked {len(self.second.seen) - asked[1]}×"
        return received


async def until(condition: Callable[[], Awaitable[bool]], seconds: float) -> None:
    """Wait until an asynchronous condition holds."""
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, f"not so after {seconds} s"
        await asyncio.sleep(0.05)
