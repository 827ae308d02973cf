"""A queue that is fair among tenants: start-time fair queueing (Goyal, Vin and Cheng, 1996) by estimated work.

Each tenant's turn carries a tag in virtual time; the smallest is served next, and being served moves the tenant's tag
on by the work over its weight. A tenant that comes anew starts at the present, so a flood waits behind itself alone.
"""

import heapq
from collections import deque
from collections.abc import Mapping
from enum import Enum, auto
from math import inf

MOST_DEAD = 16  # forgotten tickets that a tenant's queue may hold on to, beyond as many as are alive
MOST_IDLE = 64  # tenants remembered without a ticket, beyond as many as have one
MOST_PASSED = 16  # tenants whose next ticket is passed over, in looking for one that is short


class State(Enum):
    """Where a ticket stands."""

    WAITING = auto()
    RUNNING = auto()
    OVER = auto()


class Ticket:
    """One request that was let in; times are seconds on the caller's clock, work is in slot-seconds."""

    __slots__ = (
        "arrived",
        "deadline",
        "fingerprint",
        "first_token_s",
        "lane",
        "predicted_s",
        "state",
        "tenant",
        "work",
    )

    def __init__(
        self,
        tenant: str,
        lane: str,
        work: float,
        arrived: float,
        first_token_s: float = 0.0,
        deadline: float = float("inf"),
        fingerprint: int = 0,
    ) -> None:
        self.tenant = tenant
        self.lane = lane
        self.work = work
        self.arrived = arrived
        self.first_token_s = first_token_s  # predicted from dispatch to first token
        self.deadline = deadline  # the latest time of its first token
        self.fingerprint = fingerprint
        self.predicted_s = 0.0  # from arrival to first token, as predicted when it came
        self.state = State.WAITING


class Shares:
    """The weights of the tenants that want something now, counted by reason."""

    __slots__ = ("_reasons", "_weights", "total")

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._weights = weights
        self._reasons: dict[str, int] = {}
        self.total = 0.0

    def weight(self, tenant: str) -> float:
        """Return a tenant's weight; one of whom nothing is said has 1."""
        return self._weights.get(tenant, 1.0)

    def enter(self, tenant: str) -> None:
        """Note one more reason why the tenant is active."""
        reasons = self._reasons.get(tenant, 0)
        self._reasons[tenant] = reasons + 1
        if not reasons:
            self.total += self.weight(tenant)

    def leave(self, tenant: str) -> None:
        """Note one reason less."""
        reasons = self._reasons[tenant] - 1
        if reasons:
            self._reasons[tenant] = reasons
            return
        del self._reasons[tenant]
        self.total = self.total - self.weight(tenant) if self._reasons else 0.0

    def share(self, tenant: str) -> float:
        """Return the part of the whole that is the tenant's while all that are active want more."""
        weight = self.weight(tenant)
        return weight / (self.total if tenant in self._reasons else self.total + weight)


class _Tenant:
    __slots__ = ("due", "finish", "fresh", "name", "queued", "waiting", "weight", "work")

    def __init__(self, name: str, weight: float) -> None:
        self.name = name
        self.weight = weight
        self.due: deque[Ticket] = deque()  # those who came back at their promised time: before the others
        self.fresh: deque[Ticket] = deque()
        self.finish = 0.0
        self.waiting = 0
        self.work = 0.0
        self.queued = False  # stands in the heap


class FairQueue:
    """The waiting requests of one lane."""

    __slots__ = ("_heap", "_order", "_shares", "_tenants", "_virtual", "waiting", "work")

    def __init__(self, shares: Shares) -> None:
        self._shares = shares
        self._tenants: dict[str, _Tenant] = {}
        self._heap: list[tuple[float, int, _Tenant]] = []
        self._order = 0
        self._virtual = 0.0
        self.waiting = 0
        self.work = 0.0

    def push(self, ticket: Ticket, *, due: bool = False) -> None:
        """Let a ticket wait; one that is `due` goes before the others of its tenant."""
        tenant = self._tenants.get(ticket.tenant)
        if tenant is None:
            tenant = self._tenants[ticket.tenant] = _Tenant(ticket.tenant, self._shares.weight(ticket.tenant))
        if not tenant.waiting:
            self._shares.enter(tenant.name)
        (tenant.due if due else tenant.fresh).append(ticket)
        tenant.waiting += 1
        tenant.work += ticket.work
        self.waiting += 1
        self.work += ticket.work
        if not tenant.queued:
            self._enqueue(tenant, max(self._virtual, tenant.finish))

    def pop(self, longest_s: float = inf) -> Ticket | None:
        """Take the next ticket out whose first token takes less than `longest_s`; None when there is none.

        A tenant's tickets stay in their order: who has a longer one next is passed over, and keeps its turn.
        """
        passed: list[tuple[float, int, _Tenant]] = []
        found: Ticket | None = None
        while self._heap and found is None and len(passed) < MOST_PASSED:
            entry = heapq.heappop(self._heap)
            tenant = entry[2]
            if not tenant.waiting:
                tenant.queued = False
            elif (line := _line(tenant))[0].first_token_s < longest_s:
                found = self._serve(tenant, line.popleft(), entry[0])
            else:
                passed.append(entry)
        for entry in passed:
            heapq.heappush(self._heap, entry)
        return found

    def _serve(self, tenant: _Tenant, ticket: Ticket, tag: float) -> Ticket:
        tenant.queued = False
        self._virtual = max(self._virtual, tag)  # one that was passed over stands before it
        tenant.finish = tag + ticket.work / tenant.weight
        if tenant.waiting > 1:
            self._enqueue(tenant, tenant.finish)
        self._remove(tenant, ticket)
        return ticket

    def forget(self, ticket: Ticket) -> None:
        """Take a waiting ticket out of the middle; its memory follows soon."""
        tenant = self._tenants[ticket.tenant]
        ticket.state = State.OVER
        self._remove(tenant, ticket)
        if len(tenant.due) + len(tenant.fresh) > 2 * tenant.waiting + MOST_DEAD:
            tenant.due = deque(one for one in tenant.due if one.state is State.WAITING)
            tenant.fresh = deque(one for one in tenant.fresh if one.state is State.WAITING)

    def work_before(self, tenant: str) -> float:
        """Return what goes before a tenant's next request, by its own doing: what waits, and what it has had lately."""
        found = self._tenants.get(tenant)
        return found.work + max(found.finish - self._virtual, 0.0) * found.weight if found else 0.0

    def least_deserving(self) -> Ticket | None:
        """Return the newest ticket of the tenant with the most work waiting for its weight."""
        waiting = [tenant for tenant in self._tenants.values() if tenant.waiting]
        if not waiting:
            return None
        largest = max(waiting, key=lambda tenant: tenant.work / tenant.weight)
        tickets = (one for line in (largest.fresh, largest.due) for one in reversed(line))
        return next(one for one in tickets if one.state is State.WAITING)

    def _enqueue(self, tenant: _Tenant, tag: float) -> None:
        self._order += 1
        tenant.queued = True
        heapq.heappush(self._heap, (tag, self._order, tenant))

    def _remove(self, tenant: _Tenant, ticket: Ticket) -> None:
        tenant.waiting -= 1
        tenant.work -= ticket.work
        self.waiting -= 1
        self.work -= ticket.work
        if tenant.waiting:
            return
        tenant.work = 0.0
        self._shares.leave(tenant.name)
        if not self.waiting:  # a busy time is over: nobody has waited for anybody
            self.work = 0.0
            self._tenants.clear()
            self._heap.clear()
            self._virtual = 0.0
        elif len(self._tenants) > 2 * self.waiting + MOST_IDLE:
            self._tenants = {
                name: one for name, one in self._tenants.items() if one.waiting or one.finish > self._virtual
            }


def _line(tenant: _Tenant) -> deque[Ticket]:
    """Return the tenant's line that is next, one that waits at its head."""
    for line in (tenant.due, tenant.fresh):
        while line and line[0].state is not State.WAITING:
            line.popleft()
        if line:
            return line
    raise AssertionError("a tenant counts tickets that it does not have")
