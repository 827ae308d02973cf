"""What the admin listener answers, as records: dollars are decimal text, times RFC 3339, durations seconds."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from secondsource.core.fleet import Fleet, Pool
from secondsource.core.money import dollars
from secondsource.core.records import Kind, Outcome
from secondsource.gateway.books.ledger_schema import Attempt
from secondsource.policy.views import LaneView, ReplicaView, RequestView, SupplierView

SHOWN_OF_A_HASH = 12
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class AttemptAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt; `outcome` is null while it runs."""

    attempt_id: str
    number: int
    kind: Kind
    outcome: Outcome | None
    status: int
    at: datetime
    settled_at: datetime | None
    duration_s: float
    first_token_s: float | None
    replica_s: float
    tenant: str
    lane: str
    key_id: str
    endpoint: str
    model: str
    streamed: bool
    pool: str
    supplier: str
    chip: str
    replica: str
    tokens_in: int
    tokens_cached: int
    tokens_out: int
    usage_counted: bool
    cost_usd: str
    tenant_usd: str


class RequestAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One request: what is running of it, and its attempts so far."""

    request_id: str
    running: RequestView | None
    attempts: list[AttemptAnswer]


class ReplicasAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Every replica as it stands now."""

    replicas: list[ReplicaView]


class LanesAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Every model's lanes as they stand now."""

    lanes: list[LaneView]


class PoolAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One pool of the fleet file; prices in decimal dollars."""

    name: str
    supplier: str
    chip: str
    chips_per_replica: int
    model: str
    upstream_model: str
    replicas: list[str]
    api_key_env: str | None
    weight: float
    order: int
    continuation: str
    context_tokens: int | None
    max_concurrency: int | None
    usd_per_replica_hour: str
    usd_per_million_input_tokens: str
    usd_per_million_cached_tokens: str
    usd_per_million_output_tokens: str


class KeyAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One key, by the beginning of its hash."""

    key_id: str
    tenant: str
    lane: str


class FleetAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The fleet that is served, without secrets."""

    gateway: str
    admin: str
    admin_needs_key: bool
    state_dir: str
    suppliers: list[str]
    pools: list[PoolAnswer]
    lanes: list[str]
    keys: list[KeyAnswer]
    timeouts_s: dict[str, float]
    limits: dict[str, int]


class SupplierAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One supplier; without its plug it is asked for nothing."""

    name: str
    plugged: bool
    pools: list[str]
    in_flight: int
    share: float | None = None  # of the spend over its window, 0 to 1; null before anything was spent
    max_share: float | None = None
    share_window_s: float | None = None
    capped: bool = False  # asked for nothing more, for now
    breaches: int = 0  # attempts beyond a soft share since the start


class SuppliersAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Every supplier of the fleet."""

    suppliers: list[SupplierAnswer]


class PlugAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What came of pulling a plug, or putting it back."""

    supplier: str
    plugged: bool
    attempts_cut: int


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """The admin listener is alive."""

    status: str = "ok"


def attempt_answer(attempt: Attempt) -> AttemptAnswer:
    """Return a ledger row for people."""
    return AttemptAnswer(
        attempt_id=attempt.attempt_id,
        number=attempt.number,
        kind=attempt.kind,
        outcome=attempt.outcome,
        status=attempt.status,
        at=_time(attempt.at_ns),
        settled_at=None if attempt.settled_at_ns is None else _time(attempt.settled_at_ns),
        duration_s=attempt.duration_ns / 1e9,
        first_token_s=attempt.first_token_ns / 1e9 if attempt.first_token_ns else None,
        replica_s=attempt.replica_ns / 1e9,
        tenant=attempt.tenant,
        lane=attempt.lane,
        key_id=attempt.key_id,
        endpoint=attempt.endpoint,
        model=attempt.model,
        streamed=attempt.streamed,
        pool=attempt.pool,
        supplier=attempt.supplier,
        chip=attempt.chip,
        replica=attempt.replica,
        tokens_in=attempt.tokens_in,
        tokens_cached=attempt.tokens_cached,
        tokens_out=attempt.tokens_out,
        usage_counted=attempt.usage_counted,
        cost_usd=_usd(attempt.cost_nano_usd),
        tenant_usd=_usd(attempt.tenant_nano_usd),
    )


def fleet_answer(fleet: Fleet) -> FleetAnswer:
    """Return what may be shown of a fleet: field by field, so that a new field is not shown by accident."""
    return FleetAnswer(
        gateway=f"{fleet.gateway.host}:{fleet.gateway.port}",
        admin=f"{fleet.admin.host}:{fleet.admin.port}",
        admin_needs_key=fleet.admin.key_sha256 is not None,
        state_dir=fleet.state_dir,
        suppliers=[supplier.name for supplier in fleet.suppliers],
        pools=[_pool_answer(pool) for pool in fleet.pools],
        lanes=[lane.name for lane in fleet.lanes],
        keys=[KeyAnswer(key_id=key.sha256[:SHOWN_OF_A_HASH], tenant=key.tenant, lane=key.lane) for key in fleet.keys],
        timeouts_s=msgspec.structs.asdict(fleet.timeouts),
        limits=msgspec.structs.asdict(fleet.limits),
    )


def supplier_answers(
    fleet: Fleet, replicas: Sequence[ReplicaView], views: Sequence[SupplierView]
) -> list[SupplierAnswer]:
    """Return each supplier as it stands, in the order of the file."""
    spent = {view.supplier: view for view in views}
    answers = []
    for supplier in fleet.suppliers:
        own, view = [replica for replica in replicas if replica.supplier == supplier.name], spent.get(supplier.name)
        answers.append(
            SupplierAnswer(
                name=supplier.name,
                plugged=all(replica.plugged for replica in own),
                pools=[pool.name for pool in fleet.pools if pool.supplier == supplier.name],
                in_flight=sum(replica.in_flight for replica in own),
                share=None if view is None else view.share,
                max_share=supplier.max_share,
                share_window_s=supplier.share_window_s,
                capped=view is not None and view.capped,
                breaches=0 if view is None else view.breaches,
            )
        )
    return answers


def _pool_answer(pool: Pool) -> PoolAnswer:
    return PoolAnswer(
        name=pool.name,
        supplier=pool.supplier,
        chip=pool.chip,
        chips_per_replica=pool.chips_per_replica,
        model=pool.model,
        upstream_model=pool.upstream_model,
        replicas=list(pool.replicas),
        api_key_env=pool.api_key_env,
        weight=pool.weight,
        order=pool.order,
        continuation=pool.continuation.value,
        context_tokens=pool.context_tokens,
        max_concurrency=pool.max_concurrency,
        usd_per_replica_hour=_usd(pool.price.nano_usd_per_replica_hour),
        usd_per_million_input_tokens=_usd(pool.price.nano_usd_per_million_input_tokens),
        usd_per_million_cached_tokens=_usd(pool.price.nano_usd_per_million_cached_tokens),
        usd_per_million_output_tokens=_usd(pool.price.nano_usd_per_million_output_tokens),
    )


def _usd(amount_nano_usd: int) -> str:
    return f"{dollars(amount_nano_usd):f}"


def _time(at_ns: int) -> datetime:
    return EPOCH + timedelta(microseconds=at_ns // 1000)
