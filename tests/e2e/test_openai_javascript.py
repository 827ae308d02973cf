"""The `openai` JavaScript package works unchanged; skipped where there is no node or no package registry."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import EMBEDDER, PAINTER
from tests.e2e.node import install_packages
from tests.faults.fault import Fault, Kind
from tests.faults.harness import Gateway
from tests.faults.language_model import ask, ask_raw, expected_answer
from tests.faults.pair import Pair

SOURCES = Path(__file__).parent / "javascript"
CHAT = ask("javascript", wide=True)
RAW = ask_raw("javascript", wide=True)


@pytest.fixture(scope="session")
def javascript(request: pytest.FixtureRequest) -> Path:
    """A folder with the client's script and the pinned package it imports."""
    return install_packages(SOURCES, request.config)


def run_client(javascript: Path, gateway: Gateway) -> dict[str, dict[str, Any]]:
    """Run the script against a gateway and return what each case reported, by name."""
    request = {"chat": CHAT, "raw": RAW, "embedder": EMBEDDER, "painter": PAINTER}
    command = ["node", "client.mjs", f"{gateway.url}/v1", json.dumps(request)]
    ran = subprocess.run(command, cwd=javascript, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    return {report["name"]: report for report in map(json.loads, ran.stdout.strip().split("\n"))}


def test_every_call(javascript: Path, gateway: Gateway) -> None:
    reports = run_client(javascript, gateway)
    for name in ("chat", "chat streamed", "chat helper"):
        assert reports[name].get("text") == expected_answer(CHAT), reports[name]
    assert reports["chat"]["usage"]["completion_tokens"] > 0
    assert reports["chat"]["pool"] == "first-chat"
    for name in ("completion", "completion streamed"):
        assert reports[name].get("text") == expected_answer(RAW), reports[name]
    assert reports["embeddings"]["embedding"] == [0.3, 0.5, -0.25]
    assert reports["image"]["image"] == "iVBORw0KGgo="
    assert set(reports["models"]["models"]) == {"chat", EMBEDDER, PAINTER}
    assert reports["unknown model"] | {"error": "NotFoundError", "status": 404} == reports["unknown model"]
    assert reports["unknown model"]["code"] == "model_not_found"
    assert reports["bad request"] | {"error": "BadRequestError", "status": 400} == reports["bad request"]


def test_failover_is_not_noticed(javascript: Path, gateway: Gateway, service: Pair) -> None:
    service.first.plan(Fault(Kind.SERVER_ERROR), Fault(Kind.CUT_RST, after_tokens=7))
    reports = run_client(javascript, gateway)
    for name in ("chat", "chat streamed"):
        assert reports[name].get("text") == expected_answer(CHAT), reports[name]
    assert reports["chat"]["pool"] == "second-chat"
