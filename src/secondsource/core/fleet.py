"""The fleet: what a fleet file says, as frozen records with every default filled in.

Durations are in seconds, sizes in bytes or tokens, prices in integer nano-dollars. The text form and its
errors live in `core.fleet_file`; nothing here reads a file or an environment variable.
"""

from enum import StrEnum

import msgspec

IMAGE_SIZE = "1024x1024"  # width and height in pixels, where nobody says


class Continuation(StrEnum):
    """How a cut answer can be continued at a pool."""

    NONE = "none"
    PREFILL = "prefill"  # by text: the answer so far as the beginning of the assistant's turn
    TOKENS = "tokens"  # exactly, by token ids, where the engine gives them


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base of every fleet record: immutable, and strict about unknown keys."""


class Listener(Record, frozen=True, kw_only=True):
    """An address to listen on."""

    host: str
    port: int


class AdminListener(Listener, frozen=True, kw_only=True):
    """The admin listener's address, and the SHA-256 of the bearer token it asks for, in lower-case hex.

    Without a hash it asks for none, and may listen on loopback only.
    """

    key_sha256: str | None = None


class Timeouts(Record, frozen=True, kw_only=True):
    """How long to wait for a replica, and for a client, in seconds."""

    connect: float = 2.0
    first_token: float = 20.0
    between_tokens: float = 10.0
    answer: float = 120.0  # for a whole answer that is not streamed, where no token can be seen
    total: float = 600.0
    request: float = 30.0  # from a client's first byte of a request until it is whole
    idle: float = 120.0  # a client's connection on which nothing is asked
    grace: float = 30.0  # from SIGTERM until the process is gone, for answers that run


class Limits(Record, frozen=True, kw_only=True):
    """Bounds on what is held in memory for one request, in bytes."""

    request_body: int = 32 * 1024 * 1024
    request_headers: int = 64 * 1024
    response_body: int = 64 * 1024 * 1024  # an answer that is not streamed
    event: int = 1024 * 1024  # one server-sent event
    kept: int = 4 * 1024 * 1024  # events kept so that a cut stream can go on elsewhere


class ImageTerms(Record, frozen=True, kw_only=True):
    """How long image jobs are kept, and how long one runs on without a client, in seconds; sizes in bytes."""

    kept_s: float = 86_400.0  # a finished job and its answer, for the same Idempotency-Key
    kept_bytes: int = 1024 * 1024 * 1024  # of all answers together; the oldest are let go of first
    comes_back_s: float = 120.0  # a client that has left: its job runs on so long, and its answer waits so long


class Price(Record, frozen=True, kw_only=True):
    """What a pool costs: rent by the replica-hour, or a hosted API's price by the token or by the image-step."""

    nano_usd_per_replica_hour: int = 0
    nano_usd_per_million_input_tokens: int = 0
    nano_usd_per_million_cached_tokens: int = 0
    nano_usd_per_million_output_tokens: int = 0
    nano_usd_per_image_step_megapixel: int = 0  # one denoising step of a million pixels


class Cap(StrEnum):
    """What wins when every supplier that has room is at its share: serving, or the cap."""

    SOFT = "soft"
    HARD = "hard"


class Logging(Record, frozen=True, kw_only=True):
    """What the request log tells."""

    prompts: bool = False  # what was asked, word for word


class Tracing(Record, frozen=True, kw_only=True):
    """Where OpenTelemetry traces go, over OTLP/HTTP; nowhere by default."""

    endpoint: str | None = None  # "http://collector:4318", with or without /v1/traces
    service_name: str = "secondsource"


class Supplier(Record, frozen=True, kw_only=True):
    """Who rents replicas to us, and how much of the spend it may have in any window of `share_window_s` seconds."""

    name: str
    max_share: float | None = None
    share_window_s: float = 3600.0
    cap: Cap = Cap.SOFT


class Pool(Record, frozen=True, kw_only=True):
    """Identical replicas: one model, one supplier, one chip."""

    name: str
    supplier: str
    chip: str
    model: str  # the name clients ask for
    upstream_model: str  # the name the replica knows
    replicas: tuple[str, ...]  # base URLs without /v1 and without a trailing slash
    chips_per_replica: int = 1
    price: Price = Price()
    api_key_env: str | None = None
    weight: float = 1.0  # share of traffic wanted among pools of equal order
    order: int = 0  # a lower order is used first
    continuation: Continuation = Continuation.NONE
    context_tokens: int | None = None
    max_concurrency: int | None = None  # attempts in flight at one replica
    require_parity: bool = False  # no traffic and no failover before `secondsource parity` found it at par
    image_steps: int | None = None  # denoising steps of an image whose request names none
    image_size: str = IMAGE_SIZE  # of an image whose request names none, for its price


class Lane(Record, frozen=True, kw_only=True):
    """A class of traffic, and what it is promised: seconds to the first token, and per further token."""

    name: str
    priority: int = 0  # smaller first
    ttft_s: float | None = None
    tpot_s: float | None = None
    max_waiting: int = 1000  # requests that may wait for a replica at once


class Allowance(Record, frozen=True, kw_only=True):
    """The most that a key or a tenant may use; None is no limit."""

    requests_per_minute: int | None = None
    requests_per_day: int | None = None
    tokens_per_minute: int | None = None
    tokens_per_day: int | None = None
    nano_usd_per_minute: int | None = None
    nano_usd_per_day: int | None = None


class Tenant(Record, frozen=True, kw_only=True):
    """Who is charged: its share among the tenants of a lane, and what all its keys together may use."""

    name: str
    weight: float = 1.0
    allowance: Allowance = Allowance()


class Key(Record, frozen=True, kw_only=True):
    """A credential, kept as the SHA-256 of the bearer token in lower-case hex."""

    sha256: str
    tenant: str
    lane: str
    allowance: Allowance = Allowance()


class Fleet(Record, frozen=True, kw_only=True):
    """Everything `secondsource up` needs to serve, save secrets."""

    gateway: Listener = Listener(host="127.0.0.1", port=8080)
    admin: AdminListener = AdminListener(host="127.0.0.1", port=8081)
    workers: int = 1  # processes that share the gateway's port
    pump: bool = True  # streams pass outside the interpreter where they can
    state_dir: str = ".secondsource"
    image_model: str | None = None  # for an image request that names no model, which OpenAI's API allows
    timeouts: Timeouts = Timeouts()
    limits: Limits = Limits()
    images: ImageTerms = ImageTerms()
    logging: Logging = Logging()
    tracing: Tracing = Tracing()
    suppliers: tuple[Supplier, ...]
    pools: tuple[Pool, ...]
    lanes: tuple[Lane, ...] = (Lane(name="default"),)
    tenants: tuple[Tenant, ...] = ()  # those of whom the file says anything
    keys: tuple[Key, ...] = ()

    @property
    def models(self) -> tuple[str, ...]:
        """The names clients may ask for, in the order of the file, each once."""
        return tuple(dict.fromkeys(pool.model for pool in self.pools))
