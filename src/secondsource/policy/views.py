"""Views: what others may see of the state that policy owns, copied so that nobody can change it."""

from math import inf

import msgspec

from secondsource.core.fleet import Cap, Continuation
from secondsource.policy.circuit import CircuitState
from secondsource.policy.replica import Replica


class ReplicaView(msgspec.Struct, frozen=True, kw_only=True):
    """One replica as it stands now; durations are seconds from now."""

    pool: str
    supplier: str
    chip: str
    model: str
    replica: str  # its base URL
    in_flight: int
    circuit: CircuitState
    engine: str = ""  # as the replica names itself; "" when it has not said
    continuation: Continuation = Continuation.NONE  # as found out, which may be less than the fleet file says
    throttled_for_s: float = 0.0
    next_probe_in_s: float = 0.0
    at_par: bool = True  # or needs no parity
    plugged: bool = True  # False: the operator took the supplier away
    max_concurrency: int | None = None
    limit: int | None = None  # attempts that it bears now, as far as was found out; None: no bound
    reported_waiting: int | None = None  # requests that wait there, as the replica last said
    cache_used: float | None = None  # 0 to 1, as the replica last said


def view_of(replica: Replica, now: float) -> ReplicaView:
    """Return a replica as it stands at `now`, in monotonic seconds."""
    pool, circuit = replica.pool, replica.circuit
    return ReplicaView(
        pool=pool.name,
        supplier=pool.supplier,
        chip=pool.chip,
        model=pool.model,
        replica=replica.url,
        in_flight=replica.in_flight,
        circuit=circuit.state,
        engine=replica.engine,
        continuation=replica.state.continuation,
        throttled_for_s=max(circuit.throttled_until - now, 0.0),
        next_probe_in_s=max(circuit.retry_at - now, 0.0) if circuit.state is CircuitState.OPEN else 0.0,
        at_par=replica.state.admitted,
        plugged=replica.state.plugged,
        max_concurrency=pool.max_concurrency,
        limit=None if replica.limit == inf else int(replica.limit),
        reported_waiting=replica.report.waiting,
        cache_used=replica.report.cache_used,
    )


class RequestView(msgspec.Struct, frozen=True, kw_only=True):
    """A request that is being answered now."""

    request_id: str
    tenant: str
    lane: str
    endpoint: str
    model: str
    waiting: bool  # for a replica
    tokens_delivered: int
    running_for_s: float


class FlowView(msgspec.Struct, frozen=True, kw_only=True):
    """Requests of one lane that are answered by one pool now, or that wait for any."""

    lane: str
    pool: str | None  # None: waiting
    requests: int


class SupplierView(msgspec.Struct, frozen=True, kw_only=True):
    """A supplier's part of the spend as it stands now."""

    supplier: str
    share: float | None  # of the spend in its window, attempts under way as they are expected to cost; None: no cap
    max_share: float | None
    share_window_s: float
    cap: Cap
    capped: bool  # at its share: it gets nothing more while another has room
    breaches: int  # attempts beyond a soft share since the start


class LaneView(msgspec.Struct, frozen=True, kw_only=True):
    """One lane of one model as it stands now."""

    model: str
    lane: str
    priority: int
    ttft_s: float | None  # that is promised, or else how long a request waits at the most
    max_waiting: int
    running: int
    waiting: int
    places: int  # kept for those who were told to come back
    slots: int  # of all replicas of the model that may be asked now
    refused: dict[str, int]  # by reason, of all models together


class WorkerView(msgspec.Struct, frozen=True, kw_only=True):
    """One of several processes that answer clients, as it stood when it told last."""

    worker: int
    serving: bool
    restarts: int  # since the gateway started
    cpu_s: float  # of the process that holds the post now
    resident_bytes: int
    journal_refusing: bool  # its journal cannot be written, and it refuses work
