"""What attempts teach: a supplier's part of the spend, what a replica bears, and what requests are expected to need."""

import json
import logging
from pathlib import Path

import msgspec
import pytest

from secondsource.core.fleet import AdminListener, Cap, Lane, Listener, Supplier
from secondsource.gateway.service import Service
from secondsource.policy.expectation import Expectation, Size
from tests.fleets import fleet, pool
from tests.unit.gateway.held_replica import Answered, Client, HeldReplica
from tests.unit.gateway.test_entrance import ASK


async def answered(directory: Path, supplier: Supplier, count: int) -> tuple[Service, list[Answered]]:
    """Return a service, stopped again, that was asked so often one after another, over one supplier."""
    replica = await HeldReplica(holds=False).start()
    here = {"gateway": Listener(host="127.0.0.1", port=0), "admin": AdminListener(host="127.0.0.1", port=0)}
    lanes = (Lane(name="x", ttft_s=1.0),)
    plain = fleet(pool("a", replicas=(replica.url,)), state_dir=str(directory), lanes=lanes, **here)
    service = Service(msgspec.structs.replace(plain, suppliers=(supplier,)), {})
    await service.start()
    try:
        return service, [await Client(service, ASK | {"seed": number}).ask() for number in range(count)]
    finally:
        await replica.stop()
        await service.stop(1.0)


async def test_a_soft_cap_that_is_broken_is_counted_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "secondsource"):
        service, got = await answered(tmp_path, Supplier(name="a", max_share=0.5), 3)
    assert [one.status for one in got] == [200, 200, 200]
    [view] = service.supplier_views()
    assert (view.supplier, view.max_share, view.breaches) == ("a", 0.5, 3)
    assert sum("more than its share" in one.message for one in caplog.records) == 1
    logged = (tmp_path / "requests.jsonl").read_text().splitlines()
    assert [json.loads(one)["over_share"] for one in logged] == [True, True, True]


async def test_a_hard_cap_that_nobody_else_can_relieve_refuses(tmp_path: Path) -> None:
    service, [refused] = await answered(tmp_path, Supplier(name="a", max_share=0.5, cap=Cap.HARD), 1)
    assert refused.status == 503
    assert int(refused.headers["retry-after"]) >= 1
    assert service.supplier_views()[0].breaches == 0


async def test_what_requests_need_is_learned(tmp_path: Path) -> None:
    service, _ = await answered(tmp_path, Supplier(name="a"), 20)
    expectation = service._entrance.expectation("chat")
    before = Expectation(expectation.pools)
    size = Size(10_000)
    assert expectation.of(size).prompt_tokens > before.of(size).prompt_tokens  # 60 tokens in some hundred bytes
    assert service.supplier_views()[0].share is None
    assert "over_share" not in (tmp_path / "requests.jsonl").read_text()
