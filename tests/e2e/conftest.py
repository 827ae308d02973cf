"""A gateway over two healthy walls, for the clients that people really use."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import MakeGateway, MakeWall, gateways_under, walls_of
from tests.faults.harness import Gateway, Pool
from tests.faults.pair import Pair
from tests.faults.wall import WallThread

EMBEDDER, PAINTER = "embedder", "painter"


@pytest.fixture(scope="session")
def wall_thread() -> Iterator[WallThread]:
    """The thread that the walls of these tests run on."""
    thread = WallThread()
    yield thread
    thread.stop()


@pytest.fixture(scope="session")
def service(wall_thread: WallThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """One gateway that serves chat, embeddings and images, each from two suppliers."""
    with walls_of(wall_thread) as make_wall, gateways_under(tmp_path_factory.mktemp("e2e")) as make_gateway:
        chat = make_wall(), make_wall()
        pools = []
        for model in ("chat", EMBEDDER, PAINTER):
            walls = chat if model == "chat" else (make_wall(), make_wall())
            for order, (name, wall) in enumerate(zip(("first", "second"), walls, strict=True)):
                pools.append(Pool(f"{name}-{model}", (wall,), supplier=name, order=order, model=model))
        yield Pair(*chat, make_gateway(*pools))


@pytest.fixture
def gateway(service: Pair) -> Gateway:
    """The gateway of `service`, whose walls are told to behave."""
    for wall in (service.first, service.second):
        wall.script.clear()
    return service.gateway


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
