"""An operator pulls a supplier's plug: its running attempts go on elsewhere, and nothing more is sent to it."""

import json

from secondsource.core.fleet import Pool
from secondsource.core.records import Kind, Outcome, Reserved, Settled
from secondsource.policy.circuit import CircuitState
from tests.fleets import pool
from tests.streams import DONE, ask, read, says, text_of
from tests.unit.gateway.stage import Stage


def two() -> tuple[Pool, Pool]:
    return pool("a"), pool("b", order=1)


def pull(stage: Stage, supplier: str) -> bool:
    stage.router.plug(supplier, plugged=False)
    return stage.exchange.unplug(supplier)


def test_an_answer_goes_on_elsewhere_and_the_circuit_says_nothing() -> None:
    stage = Stage(ask(), *two())
    stage.call.streams(says("The lamp "))
    assert pull(stage, "a")
    assert stage.calls[0].aborted
    stage.call.streams(says("was lit."), says("", finish="stop"), done=True)
    assert text_of(read(stage.connection.body)) == "The lamp was lit."
    assert stage.connection.body.endswith(DONE)
    first, second = (record for record in stage.records if isinstance(record, Reserved))
    assert (first.supplier, second.supplier, second.kind) == ("a", "b", Kind.CONTINUATION)
    settled = [record for record in stage.records if isinstance(record, Settled)]
    assert [one.outcome for one in settled] == [Outcome.UNPLUGGED, Outcome.OK]
    assert settled[0].tenant_nano_usd == 0
    assert stage.router.replicas[0].circuit.state is CircuitState.CLOSED
    stage.check_settled()


def test_another_suppliers_answer_is_left_alone() -> None:
    stage = Stage(ask(), *two())
    assert not pull(stage, "b")
    assert not stage.calls[0].aborted


def test_an_unplugged_supplier_is_not_asked_until_it_is_plugged_in() -> None:
    stage = Stage(ask(), *two())
    router = stage.router
    router.plug("a", plugged=False)
    assert router.unplugged == {"a"}
    stage.call.fails(Outcome.RESET)
    assert stage.call.replica == "b"
    router.plug("b", plugged=False)
    assert not router.ready(stage.exchange.ask.model)
    router.plug("a", plugged=True)
    assert router.unplugged == {"b"}
    assert router.ready(stage.exchange.ask.model)


def told(body: bytes) -> list[dict[str, object]]:
    lines = [line for line in body.split(b"\n") if line.startswith(b":")]
    return [json.loads(line.removeprefix(b": secondsource ")) for line in lines]


def test_a_stream_tells_in_comments_where_its_pieces_are_made_when_asked() -> None:
    silent, telling = Stage(ask(), *two()), Stage(ask(), *two())
    telling.exchange.tells = True
    for stage in (silent, telling):
        stage.call.streams(says("The "))
        stage.call.streams(says("lamp "))
        pull(stage, "a")
        stage.call.streams(says("was lit."), says("", finish="stop"), done=True)
    assert not told(silent.connection.body)
    assert [(one["attempt"], one["supplier"], one["kind"]) for one in told(telling.connection.body)] == [
        (1, "a", "first"),
        (2, "b", "continuation"),
    ]
    assert telling.connection.body.index(b'"supplier":"b"') > telling.connection.body.index(b"lamp ")
    plain = [line for line in telling.connection.body.split(b"\n\n") if not line.startswith(b":")]
    assert len(plain) == len(silent.connection.body.split(b"\n\n"))
