"""Walls and gateways for a test, ended when it ends."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.faults.dialects import Dialect
from tests.faults.harness import Gateway, Pool, start_gateway
from tests.faults.pair import Pair
from tests.faults.wall import Wall, WallThread

MakeWall = Callable[..., Wall]
MakeGateway = Callable[..., Gateway]


@pytest.fixture(scope="session")
def wall_thread() -> Iterator[WallThread]:
    """The thread that every wall of the session runs on."""
    thread = WallThread()
    yield thread
    thread.stop()


@contextmanager
def walls_of(thread: WallThread) -> Iterator[MakeWall]:
    """Make walls that listen already; they refuse once the context ends."""
    walls: list[Wall] = []

    def make(**options: Any) -> Wall:
        wall = Wall(thread, **options).listen()
        walls.append(wall)
        return wall

    try:
        yield make
    finally:
        for wall in walls:
            wall.refuse()
    for wall in walls:
        if wall.errors:
            raise ExceptionGroup("a wall failed where it should have answered", wall.errors)


@contextmanager
def gateways_under(directory: Path) -> Iterator[MakeGateway]:
    """Start gateways over pools of walls; each is stopped, and its log printed, when the context ends."""
    with ExitStack() as stack:

        def make(*pools: Pool, **options: Any) -> Gateway:
            number = sum(1 for _ in directory.glob("gateway-*"))
            gateway = start_gateway(directory / f"gateway-{number}", *pools, **options)
            stack.callback(lambda: print(gateway.log_text()[-20000:]))
            stack.callback(gateway.stop)
            return gateway

        yield make


@pytest.fixture
def make_wall(wall_thread: WallThread) -> Iterator[MakeWall]:
    """Make walls for one test."""
    with walls_of(wall_thread) as make:
        yield make


@pytest.fixture
def make_gateway(tmp_path: Path) -> Iterator[MakeGateway]:
    """Start gateways for one test."""
    with gateways_under(tmp_path) as make:
        yield make


@pytest.fixture(scope="module")
def shared_pair(
    request: pytest.FixtureRequest, wall_thread: WallThread, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    """A preferred replica, a second source and a gateway over both, shared by a module's tests.

    The parameter, where given, is the dialect of both and how they are continued.
    """
    dialect, continuation = getattr(request, "param", (Dialect.VLLM, "prefill"))
    with walls_of(wall_thread) as make_wall, gateways_under(tmp_path_factory.mktemp("shared")) as make_gateway:
        yield make_pair(make_wall, make_gateway, continuation=continuation, dialect=dialect)


@pytest.fixture
def pair(make_wall: MakeWall, make_gateway: MakeGateway) -> Pair:
    """A preferred replica, a second source and a gateway over both, for one test."""
    return make_pair(make_wall, make_gateway)


def make_pair(make_wall: MakeWall, make_gateway: MakeGateway, continuation: str = "prefill", **options: Any) -> Pair:
    """Return a preferred replica, a second source and a gateway over both; `options` are both walls'."""
    context_tokens = 4096
    first, second = (make_wall(context_tokens=context_tokens, **options) for _ in range(2))
    pools = (
        Pool("first", (first,), continuation=continuation, context_tokens=context_tokens),
        Pool("second", (second,), continuation=continuation, context_tokens=context_tokens, order=1),
    )
    return Pair(first, second, make_gateway(*pools))
