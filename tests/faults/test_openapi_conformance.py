"""Both listeners against their own OpenAPI document, by schemathesis: generated requests, good and bad ones."""

import asyncio
import hashlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import gateways_under, walls_of
from tests.faults.harness import Gateway, Keys, Pool
from tests.faults.wall import WallThread

KEY = "sk-ss-for-schemathesis"
SEED = "20251122"


@pytest.fixture(scope="module")
def gateway(wall_thread: WallThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with walls_of(wall_thread) as make_wall, gateways_under(tmp_path_factory.mktemp("openapi")) as make_gateway:
        keys = Keys(hashlib.sha256(KEY.encode()).hexdigest(), "acme")
        # Four models, as a pool of embeddings or images is another pool, and each answers what it is asked.
        yield make_gateway(Pool("only", (make_wall(),)), keys=(keys,), timeouts={"first_token": 10.0, "answer": 10.0})


async def run_schemathesis(gateway: Gateway, directory: Path, url: str, *options: str) -> str:
    """Run it against one listener and return what it said; an AssertionError shows what it found."""
    command = [str(Path(sys.executable).parent / "schemathesis"), "--no-color", "run"]
    command += [f"{gateway.admin_url}/openapi.json", "--url", url, "--seed", SEED, "--max-examples", "25"]
    # One worker: CPython 3.11.7 has failed in ast.parse, which Hypothesis uses, with two threads in it.
    command += ["--phases", "examples,coverage,fuzzing", "--workers", "1", "--no-shrink", "--request-timeout", "20"]
    command += ["--suppress-health-check", "all", "--header", f"Authorization: Bearer {KEY}", *options]
    ran = await asyncio.to_thread(
        subprocess.run, command, cwd=directory, capture_output=True, text=True, timeout=280, check=False
    )
    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-2000:]
    return ran.stdout


def cases(said: str) -> int:
    """Return how many requests schemathesis says it judged."""
    found = re.search(r"(\d[\d,]*) generated", said)
    assert found, said
    return int(found[1].replace(",", ""))


async def test_the_public_listener_does_as_its_document_says(gateway: Gateway, tmp_path: Path) -> None:
    # What is right by the document may still be wrong to a replica, which judges what the gateway passes on.
    options = ("--include-path-regex", "^/(v1|health|ready)", "--exclude-checks", "positive_data_acceptance")
    said = await run_schemathesis(gateway, tmp_path, gateway.url, *options)
    assert cases(said) > 200
    assert "Traceback" not in gateway.log_text()


async def test_the_admin_listener_does_as_its_document_says(gateway: Gateway, tmp_path: Path) -> None:
    # Any text may be a request's id, and few are: a 404 is no refusal of the text.
    options = ("--exclude-path-regex", "^/(v1|ready)", "--exclude-checks", "positive_data_acceptance")
    said = await run_schemathesis(gateway, tmp_path, gateway.admin_url, *options)
    assert cases(said) > 50
    assert "Traceback" not in gateway.log_text()
