"""Small fleets for tests of policy and of the gateway: one pool a name, everything else open to change."""

from random import Random
from typing import Any

from secondsource.core.fleet import Continuation, Fleet, Pool, Supplier
from secondsource.policy.replica import Replica
from secondsource.policy.routing import Router

MODEL = "chat"


def pool(name: str, count: int = 1, **changes: Any) -> Pool:
    """Return a pool whose supplier has its name, of replicas that nobody listens for."""
    fields: dict[str, Any] = {
        "name": name,
        "supplier": name,
        "chip": "h100-sxm",
        "model": MODEL,
        "upstream_model": f"{name}-model",
        "replicas": tuple(f"http://{name}-{number}.test:9000" for number in range(count)),
        "continuation": Continuation.PREFILL,
    }
    return Pool(**(fields | changes))


def fleet(*pools: Pool, **changes: Any) -> Fleet:
    """Return a fleet of these pools and their suppliers."""
    suppliers = tuple(Supplier(name=name) for name in dict.fromkeys(one.supplier for one in pools))
    return Fleet(suppliers=suppliers, pools=pools, **changes)


def router(*pools: Pool, seed: int = 0) -> Router:
    """Return a router over these pools whose chances come from the seed."""
    return Router(fleet(*pools), Random(seed))


def replica_of(over: Router, name: str) -> Replica:
    """Return the first replica of the pool of this name."""
    return next(replica for replica in over.replicas if replica.pool.name == name)
