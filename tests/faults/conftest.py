"""Walls and gateways for a test, ended when it ends."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.faults.harness import Gateway, Pool, start_gateway
from tests.faults.wall import Wall, WallThread

MakeWall = Callable[..., Wall]
MakeGateway = Callable[..., Gateway]


@pytest.fixture(scope="session")
def wall_thread() -> Iterator[WallThread]:
    """The thread that every wall of the session runs on."""
    thread = WallThread()
    yield thread
    thread.stop()


@pytest.fixture
def make_wall(wall_thread: WallThread) -> Iterator[MakeWall]:
    """Make walls that listen already; they refuse once the test is over."""
    walls: list[Wall] = []

    def make(**options: Any) -> Wall:
        wall = Wall(wall_thread, **options).listen()
        walls.append(wall)
        return wall

    yield make
    for wall in walls:
        wall.refuse()


@pytest.fixture
def make_gateway(tmp_path: Path) -> Iterator[MakeGateway]:
    """Start gateways over pools of walls; each is stopped, and its log printed, when the test is over."""
    with ExitStack() as stack:

        def make(*pools: Pool, **options: Any) -> Gateway:
            number = sum(1 for _ in tmp_path.glob("gateway-*"))
            gateway = start_gateway(tmp_path / f"gateway-{number}", *pools, **options)
            stack.callback(lambda: print(gateway.log_text()[-20000:]))
            stack.callback(gateway.stop)
            return gateway

        yield make
