"""`secondsource parity` as a person runs it, between replicas over HTTP, and the gateway that obeys its ruling."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from secondsource.cli.main import main
from secondsource.core.fleet_file import load_fleet
from secondsource.gateway.service import Service
from tests.parity_sources.toy import Toy, replicas

GOOD = Toy()
FLEET = """
[gateway]
port = 0
state_dir = "{state}"
[admin]
port = 0
[suppliers.one]
[suppliers.two]
[[pools]]
name = "new"
supplier = "one"
chip = "tpu-v6e"
model = "chat"
replicas = [{new}]
require_parity = true
[[pools]]
name = "old"
supplier = "two"
chip = "h100-sxm"
model = "chat"
replicas = [{old}]
"""


def judged(directory: Path, capsys: pytest.CaptureFixture[str], *toys: Toy, flags: tuple[str, ...] = ()) -> Any:
    """Return exit code and report of a run with these replicas under test against a good one."""
    with replicas((*toys, GOOD)) as urls:
        fleet = directory / "fleet.toml"
        *new, old = (json.dumps(url) for url in urls)
        fleet.write_text(FLEET.format(state=directory, new=", ".join(new), old=old))
        code = main(["parity", str(fleet), "--json", *flags])
    return code, json.loads(capsys.readouterr().out)


def kept(directory: Path) -> Any:
    return json.loads((directory / "parity" / "new.json").read_text())


def test_a_pool_that_answers_alike_is_at_par(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, report = judged(tmp_path, capsys, GOOD)
    assert (code, report["ruling"], report["causes"]) == (0, "at_par", [])
    assert report["agreement"]["top1_agreement"] == 1
    assert report["probes"] <= 100
    assert report["untested"] == []
    assert kept(tmp_path) == report


def test_drift_as_between_chips_is_at_par(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, report = judged(tmp_path, capsys, Toy(drift=0.064))
    assert (code, report["ruling"]) == (0, "at_par")
    assert 0.03 < report["agreement"]["gap_max"] <= 0.0641


@pytest.mark.parametrize(
    ("toy", "cause"),
    [
        (Toy(drift=0.8), "weights or arithmetic of another precision (quantised)"),
        (Toy(model_seed=1), "another model"),
        (Toy(template="### "), "another chat template"),
        (Toy(context=500), "a smaller context"),
        (Toy(temperature=0.0), "temperature ignored"),
        (Toy(temperature=1.0), "temperature ignored"),
        (Toy(structured=False), "answers do not follow the schema"),
    ],
)
def test_a_fault_is_found_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], toy: Toy, cause: str) -> None:
    code, report = judged(tmp_path, capsys, toy)
    assert (code, report["ruling"]) == (1, "not_at_par")
    assert report["causes"][0]["name"] == cause
    assert report["probes"] <= 200


def test_without_log_probabilities_texts_decide(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, report = judged(tmp_path, capsys, Toy(logprobs=False))
    assert (code, report["ruling"], report["logprobs"]) == (0, "at_par", False)
    code, report = judged(tmp_path, capsys, Toy(logprobs=False, model_seed=1))
    assert (code, report["ruling"], report["logprobs"]) == (1, "not_at_par", False)


def test_one_bad_replica_of_two_is_found_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, report = judged(tmp_path, capsys, GOOD, Toy(model_seed=1))
    assert (code, report["ruling"]) == (1, "not_at_par")
    departed = sorted(hits / seen for hits, seen in report["departed_by_replica"].values())
    assert departed == [0, 1]


def test_too_few_probes_decide_nothing_and_take_no_ruling_away(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert judged(tmp_path, capsys, GOOD, flags=("--probes", "9"))[1]["ruling"] == "not_enough_evidence"
    assert kept(tmp_path)["ruling"] == "not_enough_evidence"
    assert judged(tmp_path, capsys, GOOD)[0] == 0
    code, report = judged(tmp_path, capsys, GOOD, flags=("--probes", "9"))
    assert (code, report["ruling"], kept(tmp_path)["ruling"]) == (1, "not_enough_evidence", "at_par")
    assert judged(tmp_path, capsys, Toy(model_seed=1))[0] == 1
    assert kept(tmp_path)["ruling"] == "not_at_par"


@pytest.mark.parametrize(("toy", "said"), [(Toy(failing=True), "HTTP 500"), (Toy(key="k"), "refuses our key")])
def test_a_pool_that_does_not_answer_is_told_as_that(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], toy: Toy, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secondsource.parity.replicas.RETRY_AFTER_S", 0.0)
    with replicas((toy, GOOD)) as urls:
        fleet = tmp_path / "fleet.toml"
        fleet.write_text(FLEET.format(state=tmp_path, new=json.dumps(urls[0]), old=json.dumps(urls[1])))
        assert main(["parity", str(fleet)]) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "parity").exists()


def test_a_person_reads_the_ruling_and_its_evidence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with replicas((Toy(template="### "), GOOD)) as urls:
        fleet = tmp_path / "fleet.toml"
        fleet.write_text(FLEET.format(state=tmp_path, new=json.dumps(urls[0]), old=json.dumps(urls[1])))
        record = tmp_path / "exchanges.jsonl"
        assert main(["parity", str(fleet), "--pool", "new", "--against", "old", "--record", str(record)]) == 1
    out = capsys.readouterr().out
    assert "Not at par: new against old" in out
    assert "another chat template: text to go on with is answered alike, chats are not" in out
    assert len(record.read_text().splitlines()) == 36


async def pools_used(url: str) -> set[str]:
    """Return which pools answer ten requests."""
    ask = {"model": "chat", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3, "temperature": 0}
    async with httpx.AsyncClient(base_url=url) as client:
        answers = [await client.post("/v1/chat/completions", json=ask) for _ in range(10)]
    return {answer.headers["x-secondsource-pool"] for answer in answers}


async def test_the_gateway_sends_traffic_once_the_pool_is_at_par(tmp_path: Path) -> None:
    with replicas((GOOD, GOOD)) as urls:
        fleet = tmp_path / "fleet.toml"
        fleet.write_text(FLEET.format(state=tmp_path, new=json.dumps(urls[0]), old=json.dumps(urls[1])))
        service = Service(load_fleet(fleet), {})
        await service.start()
        try:
            assert await pools_used(service.gateway_url) == {"old"}
            assert await asyncio.to_thread(main, ["parity", str(fleet)]) == 0
            async with asyncio.timeout(20):
                while await pools_used(service.gateway_url) != {"old", "new"}:  # noqa: ASYNC110 -- it is asked, and not told
                    await asyncio.sleep(0.1)
        finally:
            await service.stop(1.0)
