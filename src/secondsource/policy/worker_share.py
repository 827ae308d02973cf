"""What one of several workers may have of a fleet: its part of each bound that is on all of them together."""

import msgspec

from secondsource.core.fleet import Fleet, Lane, Pool


def part(whole: int, worker: int, workers: int) -> int:
    """Return the part of `whole` that worker 1, 2, ... of `workers` has; all parts together are the whole."""
    return whole // workers + (worker <= whole % workers)


def share_of(fleet: Fleet, worker: int, workers: int) -> Fleet:
    """Return the fleet as one worker serves it: attempts in flight and waiting requests are divided, all else is not.

    Limits of keys and tenants are not divided but leased (`policy.leases`); a supplier's cap that every worker keeps
    is kept by all together.
    """
    return msgspec.structs.replace(
        fleet,
        pools=tuple(_pool(pool, worker, workers) for pool in fleet.pools),
        lanes=tuple(_lane(lane, worker, workers) for lane in fleet.lanes),
    )


def _pool(pool: Pool, worker: int, workers: int) -> Pool:
    if pool.max_concurrency is None:
        return pool
    return msgspec.structs.replace(pool, max_concurrency=part(pool.max_concurrency, worker, workers))


def _lane(lane: Lane, worker: int, workers: int) -> Lane:
    return msgspec.structs.replace(lane, max_waiting=part(lane.max_waiting, worker, workers))
