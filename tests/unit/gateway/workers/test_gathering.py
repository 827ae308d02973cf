"""What workers told, as one: sums where they are parts of a whole, the worst where each has its own."""

from secondsource.core.fleet import Cap, Continuation
from secondsource.gateway.meter import Meter
from secondsource.gateway.workers import gathering
from secondsource.gateway.workers.counts import copy_of
from secondsource.gateway.workers.messages import Told
from secondsource.policy.circuit import CircuitState
from secondsource.policy.views import FlowView, LaneView, ReplicaView, SupplierView


def replica(in_flight: int, limit: int | None, continuation: Continuation = Continuation.TOKENS) -> ReplicaView:
    return ReplicaView(
        pool="a",
        supplier="s",
        chip="c",
        model="m",
        replica="http://a",
        in_flight=in_flight,
        circuit=CircuitState.CLOSED,
        continuation=continuation,
        limit=limit,
        max_concurrency=8,
    )


def lane(running: int, refused: int) -> LaneView:
    return LaneView(
        model="m",
        lane="paid",
        priority=0,
        ttft_s=1.0,
        max_waiting=10,
        running=running,
        waiting=2,
        places=1,
        slots=4,
        refused={"rejected-full": refused} if refused else {},
    )


def supplier(share: float, breaches: int, *, capped: bool) -> SupplierView:
    return SupplierView(
        supplier="s", share=share, max_share=0.5, share_window_s=60.0, cap=Cap.SOFT, capped=capped, breaches=breaches
    )


def told(in_flight: int, limit: int | None, continuation: Continuation, *, refused: int, share: float) -> Told:
    return Told(
        number=1,
        counts=copy_of(Meter((), ())),
        replicas=[replica(in_flight, limit, continuation)],
        lanes=[lane(in_flight, refused)],
        suppliers=[supplier(share, 1, capped=share > 0.5)],
        flows=[FlowView(lane="paid", pool="a", requests=in_flight), FlowView(lane="paid", pool=None, requests=1)],
        cpu_s=1.0,
        resident_bytes=1,
        journal_refusing=False,
    )


TOLD = [
    told(3, 4, Continuation.PREFILL, refused=0, share=0.2),
    told(2, 4, Continuation.TOKENS, refused=5, share=0.6),
]


def test_replicas() -> None:
    (shown,) = gathering.replicas([replica(0, 8)], TOLD)
    assert (shown.in_flight, shown.limit, shown.max_concurrency) == (5, 8, 8)
    assert shown.continuation is Continuation.PREFILL
    (unbounded,) = gathering.replicas([replica(0, 8)], [*TOLD, told(0, None, Continuation.TOKENS, refused=0, share=0)])
    assert unbounded.limit is None
    assert gathering.replicas([replica(0, 8)], []) == [replica(0, None)]


def test_lanes_flows_and_suppliers() -> None:
    (paid,) = gathering.lanes(TOLD)
    assert (paid.running, paid.waiting, paid.places, paid.slots, paid.max_waiting) == (5, 4, 2, 8, 20)
    assert paid.refused == {"rejected-full": 5}
    assert {(flow.pool, flow.requests) for flow in gathering.flows(TOLD)} == {("a", 5), (None, 2)}
    (only,) = gathering.suppliers(TOLD)
    assert (only.share, only.capped, only.breaches) == (0.6, True, 2)
    assert gathering.suppliers([]) == gathering.lanes([]) == gathering.flows([]) == []
