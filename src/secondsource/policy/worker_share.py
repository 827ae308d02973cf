"""What one of several workers may have of a fleet: its part of each bound that is on all of them together."""

import msgspec

from secondsource.core.fleet import Fleet, Lane


def part(whole: int, worker: int, workers: int) -> int:
    """Return the part of `whole` that worker 1, 2, ... of `workers` has; all parts together are the whole."""
    return whole // workers + (worker <= whole % workers)


def share_of(fleet: Fleet, worker: int, workers: int) -> Fleet:
    """Return the fleet as one worker serves it: requests that may wait are divided, all else is not.

    Slots are divided and lent (`policy.replica`), limits of keys and tenants leased (`policy.leases`); a supplier's cap
    that every worker keeps is kept by all together.
    """
    return msgspec.structs.replace(fleet, lanes=tuple(_lane(lane, worker, workers) for lane in fleet.lanes))


def _lane(lane: Lane, worker: int, workers: int) -> Lane:
    return msgspec.structs.replace(lane, max_waiting=part(lane.max_waiting, worker, workers))
