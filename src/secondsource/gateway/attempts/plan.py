"""What is to be tried: where, why, and how the answer goes on there."""

import msgspec

from secondsource.core.records import Kind, Reserved
from secondsource.gateway.pump.pump import Pump
from secondsource.gateway.upstream import ReplicaClient
from secondsource.gateway.wire.continuation import Method
from secondsource.gateway.wire.request import Ask
from secondsource.policy.replica import Replica


class Plan(msgspec.Struct, frozen=True):
    """One attempt, before it is begun."""

    replica: Replica
    client: ReplicaClient
    kind: Kind
    method: Method | None  # None for a first try and for a clean restart
    ask: Ask
    forwarded: bytes  # header lines passed on from the client
    reserved: Reserved
    event_limit: int
    body_limit: int
    between_tokens_s: float
    pump: Pump | None  # where there is one

    @property
    def continues(self) -> bool:
        """Whether the replica is given the beginning of the answer."""
        return self.method in (Method.PREFILL, Method.TOKENS)
