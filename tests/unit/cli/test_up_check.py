"""`secondsource up --check`: the verdict, the table and the JSON."""

import json

import msgspec
import pytest
from rich.console import Console

from secondsource.cli.up_check import as_json, judge, show, state_of
from secondsource.core.fleet import Fleet, Pool, Supplier
from secondsource.gateway.probe import ReplicaReport


def pool(name: str, model: str, *replicas: str) -> Pool:
    return Pool(name=name, supplier="s", chip="c", model=model, upstream_model=model, replicas=replicas)


FLEET = Fleet(
    suppliers=(Supplier(name="s"),),
    pools=(pool("p", "chat", "http://a:1", "http://a:2"), pool("q", "code", "http://b:1")),
)
WELL = ReplicaReport(
    pool="p",
    replica="http://a:1",
    reachable=True,
    engine="vllm",
    models=("chat",),
    serves_model=True,
    continuation="prefill",
    detail="",
)
ALL_WELL = [
    WELL,
    msgspec.structs.replace(WELL, replica="http://a:2"),
    msgspec.structs.replace(WELL, pool="q", replica="http://b:1", models=("code",)),
]
DEAD = msgspec.structs.replace(
    WELL, reachable=False, serves_model=False, models=(), engine=None, detail="connect failed"
)


def test_all_well_is_well() -> None:
    assert judge(FLEET, ALL_WELL).ok


def test_one_replica_that_does_not_answer_is_a_no() -> None:
    findings = judge(FLEET, [DEAD, *ALL_WELL[1:]])
    assert findings.problems == ("http://a:1 (pool p) is not reachable",)
    assert not findings.ok


def test_a_model_that_nobody_serves_is_a_no() -> None:
    other = msgspec.structs.replace(ALL_WELL[2], serves_model=False, models=("something",))
    assert judge(FLEET, [*ALL_WELL[:2], other]).problems == ('no replica serves model "code"',)


def test_a_model_that_one_of_two_replicas_serves_is_served() -> None:
    other = msgspec.structs.replace(WELL, serves_model=False, models=("something",))
    assert judge(FLEET, [other, *ALL_WELL[1:]]).ok


def test_a_replica_of_another_pool_does_not_count() -> None:
    assert not judge(FLEET, ALL_WELL[:2]).ok


@pytest.mark.parametrize(
    ("report", "state"),
    [
        (WELL, "serves"),
        (DEAD, "not reachable: connect failed"),
        (msgspec.structs.replace(WELL, serves_model=False), "does not serve the model; it has: chat"),
    ],
)
def test_states_in_words(report: ReplicaReport, state: str) -> None:
    assert state_of(report) == state


def test_the_json_is_stable() -> None:
    findings = judge(FLEET, [DEAD, *ALL_WELL[1:]])
    document = json.loads(as_json("fleet.toml", findings, [DEAD, *ALL_WELL[1:]]))
    assert document["fleet"] == "fleet.toml"
    assert document["ok"] is False
    assert document["problems"] == list(findings.problems)
    assert document["replicas"][1] == {
        "pool": "p",
        "replica": "http://a:2",
        "reachable": True,
        "serves_model": True,
        "engine": "vllm",
        "models": ["chat"],
        "continuation": "prefill",
        "detail": "",
    }


def test_the_table_names_every_replica_and_the_verdict() -> None:
    console = Console(record=True, width=200, file=None, force_terminal=False, quiet=False)
    with console.capture() as captured:
        show(judge(FLEET, ALL_WELL), ALL_WELL, console)
    text = captured.get()
    for report in ALL_WELL:
        assert report.replica in text
    assert "Every model can be served" in text
