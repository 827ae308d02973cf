"""What the console's page is told, as records: dollars as numbers for charts, durations in seconds, rates a second."""

from datetime import datetime

import msgspec

from secondsource.console.incidents import Incident


class LaneInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A lane as the fleet file has it."""

    name: str
    priority: int
    ttft_s: float | None
    tpot_s: float | None


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What the page needs once."""

    version: str
    gateway_url: str
    models: list[str]
    lanes: list[LaneInfo]
    suppliers: list[str]
    chat_needs_key: bool
    may_change: bool
    prompts_logged: bool
    state_dir: str


class LaneNow(msgspec.Struct, frozen=True, kw_only=True):
    """A lane over the last minute, and what of it runs and waits now."""

    name: str
    running: int
    waiting: int
    requests_per_s: float
    refused_per_s: float
    tokens_per_s: float
    good_per_s: float
    goodput: float | None  # the part (0 to 1) of requests that were answered within what the lane promises
    ttft_s_p50: float | None
    ttft_s_p99: float | None
    ttft_s_slo: float | None
    tpot_s_p50: float | None
    tpot_s_p99: float | None
    tpot_s_slo: float | None


class FlowNow(msgspec.Struct, frozen=True, kw_only=True):
    """What goes from a lane to a pool: attempts of the last minute, and those that run."""

    lane: str
    pool: str
    supplier: str
    chip: str
    attempts: int
    running: int
    tokens_per_s: float


class PoolNow(msgspec.Struct, frozen=True, kw_only=True):
    """A pool as it stands, and over the last minute."""

    name: str
    supplier: str
    chip: str
    model: str
    replicas: int
    up: int
    circuits: dict[str, int]  # replicas by the state of their circuit
    in_flight: int
    limit: int | None  # attempts that all its replicas together bear
    waiting: int | None  # at its replicas, where they report it
    at_par: bool
    plugged: bool
    continuation: str
    tokens_per_s: float
    failed_per_min: int
    usd_per_hour: float


class SupplierNow(msgspec.Struct, frozen=True, kw_only=True):
    """A supplier and its part (0 to 1) of the spend, or, until there is any, of the last minute's tokens."""

    name: str
    plugged: bool
    in_flight: int
    share: float | None
    max_share: float | None
    capped: bool
    tokens_per_s: float


class ChipNow(msgspec.Struct, frozen=True, kw_only=True):
    """What a chip costs: rent and use by the hour, and a million output tokens of the last minute."""

    chip: str
    usd_per_hour: float
    tokens_per_s: float
    marginal_usd_per_million: float | None
    loaded_usd_per_million: float | None


class LaneSeries(msgspec.Struct, frozen=True, kw_only=True):
    """A lane over five minutes, in bins; None where nothing ended."""

    ttft_s_p50: list[float | None]
    ttft_s_p99: list[float | None]
    tpot_s_p50: list[float | None]


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """Five minutes in bins of five seconds; `at` is each bin's beginning, in milliseconds since 1970."""

    at: list[int]
    lanes: dict[str, LaneSeries]
    tokens_per_s: dict[str, list[float]]  # by supplier
    refused: list[int]
    failed: list[int]


class Now(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the page Now shows."""

    at: datetime
    running: int
    waiting: int
    requests_per_s: float
    tokens_per_s: float
    refused_per_s: float
    goodput: float | None
    usd_per_hour: float
    usd_per_million: float | None
    lanes: list[LaneNow]
    flows: list[FlowNow]
    pools: list[PoolNow]
    suppliers: list[SupplierNow]
    chips: list[ChipNow]
    incidents: list[Incident]
    series: Series
