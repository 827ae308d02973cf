"""What coordinator and workers say to each other, over one socket each; a number pairs an answer with its question."""

from typing import NamedTuple

import msgspec

from secondsource.core.fleet import Fleet
from secondsource.gateway.workers.counts import Counts
from secondsource.policy.concurrency import LoadReport
from secondsource.policy.leases import GivenBack, Slice
from secondsource.policy.limits import MeterId
from secondsource.policy.shared_circuit import Facts, Seen
from secondsource.policy.views import FlowView, LaneView, ReplicaView, RequestView, SupplierView


class Message(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The base of all that is said."""


class ReplicaName(NamedTuple):
    """A replica, by its pool's name and its base URL."""

    pool: str
    url: str


class Learnt(NamedTuple):
    """What the probes found out about a replica."""

    engine: str = ""
    context_tokens: int | None = None


# -- from the coordinator


class Welcome(Message, frozen=True, kw_only=True):
    """The first message: serve this, as this worker. The secrets are bearer tokens by pool."""

    worker: int
    workers: int
    fleet: Fleet
    secrets: dict[str, str]
    unplugged: frozenset[str]
    places: list[tuple[ReplicaName, int]]  # of replicas, on the board


class Begin(Message, frozen=True, kw_only=True):
    """All that was known has been said: accept clients."""


class Stand(Message, frozen=True, kw_only=True):
    """How a replica stands, as the coordinator says."""

    replica: ReplicaName
    facts: Facts | None = None
    learnt: Learnt | None = None
    report: LoadReport | None = None  # what it said of its load


class Slices(Message, frozen=True, kw_only=True):
    """What was granted of what was asked for."""

    number: int
    slices: list[Slice]


class Tell(Message, frozen=True, kw_only=True):
    """How do you stand?"""

    number: int


class Find(Message, frozen=True, kw_only=True):
    """Is this request yours?"""

    number: int
    request_id: str


class Plug(Message, frozen=True, kw_only=True):
    """Take a supplier away, or put it back."""

    number: int
    supplier: str
    plugged: bool


class Reload(Message, frozen=True, kw_only=True):
    """Serve this from now on."""

    number: int
    fleet: Fleet
    secrets: dict[str, str]
    places: list[tuple[ReplicaName, int]]


class Adopt(Message, frozen=True, kw_only=True):
    """Accept on the sockets of another worker, which is gone, too; or leave them, as it is back."""

    worker: int
    adopted: bool


class Stop(Message, frozen=True, kw_only=True):
    """Take no more, let what runs end, and be gone within so many seconds."""

    grace_s: float


# -- from a worker


class Ready(Message, frozen=True, kw_only=True):
    """Clients are accepted."""


class Leaving(Message, frozen=True, kw_only=True):
    """Clients are accepted no more: somebody told this worker to stop."""


class Witness(Message, frozen=True, kw_only=True):
    """What was seen of a replica."""

    replica: ReplicaName
    seen: Seen


class Want(Message, frozen=True, kw_only=True):
    """Slices of limits wanted, at least so much of each; what is given back comes first."""

    number: int
    given_back: list[GivenBack]
    wants: list[tuple[MeterId, int]]


class Told(Message, frozen=True, kw_only=True):
    """How this worker stands."""

    number: int
    counts: Counts
    replicas: list[ReplicaView]
    lanes: list[LaneView]
    suppliers: list[SupplierView]
    cpu_s: float
    resident_bytes: int
    journal_refusing: bool
    flows: list[FlowView]


class Found(Message, frozen=True, kw_only=True):
    """The request that was asked for, if it runs here."""

    number: int
    request: RequestView | None


class Done(Message, frozen=True, kw_only=True):
    """It is done; `count` says how many attempts were cut, where that was the question."""

    number: int
    count: int = 0


FromCoordinator = Welcome | Begin | Stand | Slices | Tell | Find | Plug | Reload | Adopt | Stop
FromWorker = Ready | Leaving | Witness | Want | Told | Found | Done
