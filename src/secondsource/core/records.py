"""The ledger's records: what one attempt reserved, and how it was settled.

Times are wall-clock nanoseconds since 1970, durations nanoseconds, money integer nano-dollars.
"""

from enum import StrEnum

import msgspec


class Kind(StrEnum):
    """Why an attempt was made."""

    FIRST = "first"
    RETRY = "retry"  # nothing had reached the client
    CONTINUATION = "continuation"  # goes on from what the client has
    REMAKE = "remake"  # made afresh, spliced in after what the client has


class Outcome(StrEnum):
    """How an attempt ended."""

    OK = "ok"
    CALLER_ERROR = "caller_error"  # a 4xx that is the client's own
    CONTEXT_OVERFLOW = "context_overflow"
    NOT_OFFERED = "not_offered"  # 501: this replica's engine cannot do what is asked, and another's may
    CONNECT_FAILED = "connect_failed"
    RESET = "reset"  # closed before a whole answer head
    FIRST_TOKEN_TIMEOUT = "first_token_timeout"  # noqa: S105 -- not a password
    THROTTLED = "throttled"  # 429
    SERVER_ERROR = "server_error"  # 5xx
    CUT = "cut"  # closed in the middle of an answer
    STALLED = "stalled"
    GARBLED = "garbled"
    ERROR_EVENT = "error_event"  # the replica reported an error inside its stream
    PREFILL_REFUSED = "prefill_refused"
    DEPARTED = "departed"  # a remade answer that differs from what was already sent
    TOTAL_TIMEOUT = "total_timeout"
    CLIENT_GONE = "client_gone"
    UNPLUGGED = "unplugged"  # the operator took the supplier away
    INTERRUPTED = "interrupted"  # the gateway itself died; settled at the next start as what is known


class Reserved(msgspec.Struct, frozen=True, tag="reserved", kw_only=True):
    """Written before an attempt is sent."""

    attempt_id: str  # "<request_id>.<number>"
    request_id: str
    number: int  # 1 for a request's first attempt
    kind: Kind
    at_ns: int
    tenant: str
    lane: str
    key_id: str  # the first 12 hex digits of the key's SHA-256, or ""
    endpoint: str  # "/v1/chat/completions"
    model: str
    streamed: bool
    pool: str
    supplier: str
    chip: str
    replica: str  # the replica's base URL


class Noted(msgspec.Struct, frozen=True, tag="noted", kw_only=True):
    """Written now and then while a stream runs, so that a killed gateway knows what had been delivered."""

    attempt_id: str
    at_ns: int
    first_token_ns: int
    replica_ns: int
    tokens_in: int
    tokens_cached: int
    tokens_out: int
    cost_nano_usd: int


class Settled(msgspec.Struct, frozen=True, tag="settled", kw_only=True):
    """Written when an attempt has ended; `tenant_nano_usd` is the part that the tenant bears."""

    attempt_id: str
    at_ns: int
    outcome: Outcome
    status: int  # the replica's HTTP status, 0 when there was none
    duration_ns: int
    first_token_ns: int  # 0 when there was no token
    replica_ns: int  # this attempt's share of its replica's busy time
    tokens_in: int
    tokens_cached: int
    tokens_out: int
    usage_counted: bool  # true when tokens are our own count and not the replica's
    cost_nano_usd: int  # what the attempt cost us
    tenant_nano_usd: int  # the part of it that the tenant bears; a failed attempt is the operator's


LedgerRecord = Reserved | Noted | Settled
