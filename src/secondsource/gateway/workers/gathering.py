"""What workers told, as one: what the admin listener of a gateway of many processes shows."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter

import msgspec

from secondsource.core.fleet import Continuation
from secondsource.gateway.workers.messages import Told
from secondsource.policy.views import FlowView, LaneView, ReplicaView, SupplierView

_ORDER = (Continuation.NONE, Continuation.PREFILL, Continuation.TOKENS)


def replicas(known: Iterable[ReplicaView], told: Sequence[Told]) -> list[ReplicaView]:
    """Return the coordinator's view of each replica, with the attempts in flight of all workers.

    Each worker finds out by itself how a pool continues: the least that any found is shown.
    """
    theirs: defaultdict[tuple[str, str], list[ReplicaView]] = defaultdict(list)
    for one in told:
        for view in one.replicas:
            theirs[view.pool, view.replica].append(view)
    shown = []
    for view in known:
        same = theirs[view.pool, view.replica]
        least = min((each.continuation for each in (view, *same)), key=_ORDER.index)
        in_flight = sum(each.in_flight for each in same)
        limits = [each.limit for each in same if each.limit is not None]
        limit = sum(limits) if same and len(limits) == len(same) else None
        shown.append(msgspec.structs.replace(view, in_flight=in_flight, continuation=least, limit=limit))
    return shown


def flows(told: Sequence[Told]) -> list[FlowView]:
    """Return what is being answered, by lane and pool."""
    counts = Counter[tuple[str, str | None]]()
    for one in told:
        for flow in one.flows:
            counts[flow.lane, flow.pool] += flow.requests
    return [FlowView(lane=lane, pool=pool, requests=count) for (lane, pool), count in counts.items()]


def lanes(told: Sequence[Told]) -> list[LaneView]:
    """Return each lane of each model, its numbers over all workers."""
    by_lane: dict[tuple[str, str], list[LaneView]] = {}
    for one in told:
        for view in one.lanes:
            by_lane.setdefault((view.model, view.lane), []).append(view)
    return [_lane(views) for views in by_lane.values()]


def suppliers(told: Sequence[Told]) -> list[SupplierView]:
    """Return each supplier's part of the spend: of the worker where it is largest, as each keeps the cap itself."""
    by_name: dict[str, list[SupplierView]] = {}
    for one in told:
        for view in one.suppliers:
            by_name.setdefault(view.supplier, []).append(view)
    return [_supplier(views) for views in by_name.values()]


def _supplier(views: Sequence[SupplierView]) -> SupplierView:
    largest = max(views, key=lambda view: view.share or 0.0)
    capped, breaches = any(view.capped for view in views), sum(view.breaches for view in views)
    return msgspec.structs.replace(largest, capped=capped, breaches=breaches)


def _lane(views: Sequence[LaneView]) -> LaneView:
    refused = Counter[str]()
    for view in views:
        refused.update(view.refused)
    sums = {name: _sum(views, attrgetter(name)) for name in ("max_waiting", "running", "waiting", "places", "slots")}
    return msgspec.structs.replace(views[0], refused=dict(refused), **sums)


def _sum(views: Iterable[LaneView], number: Callable[[LaneView], int]) -> int:
    return sum(number(view) for view in views)
