"""Which replica a request goes to: filter, then share by weight among pools, then least to read, or the least busy.

The router owns what is known of each replica. It reads no clock: `now` is monotonic seconds from the caller.
"""

from collections import Counter
from collections.abc import Container, Iterator, Mapping
from math import inf
from random import Random
from typing import NamedTuple

from secondsource.core.fleet import Continuation, Fleet, Pool
from secondsource.policy.circuit import CircuitState
from secondsource.policy.prefix_affinity import PrefixAffinity
from secondsource.policy.reading import Spared, better_soon, calm, may_read_s, with_least_to_read
from secondsource.policy.replica import Lent, PoolState, Replica
from secondsource.policy.supplier_share import SupplierShares

MANY = 10**9  # attempts: where nothing bounds them
AHEAD = 8.0  # average requests: so far a pool may be ahead of its weight to keep a conversation where its cache is
AVERAGING = 0.02
ENOUGH = 2.0  # attempts at a replica on average: then hardly ever has one none
BUSIER = 1  # attempts: so much busier than the least busy may be where a new conversation is sent
CATCHES_UP = 50.0  # average requests: what a pool held back by its supplier's share may have later at the most
HARD_CAP_WAIT_S = 1.0


class Need(NamedTuple):
    """What a request is expected to need, for the shares of work, of spend and of caches."""

    work: float = 1.0  # in any one unit
    nano_usd: int = 1
    blocks: tuple[int, ...] = ()  # hashes of the prompt's first blocks, each of all text up to its end
    urgent: bool = True  # of the best lane: its first token soonest; others spread what room they leave
    calm_s: float = inf  # others are sent where prompts are read for longer only if they are read so everywhere


ANY = Need()


class Wanted(NamedTuple):
    """What a request needs of a replica."""

    model: str
    avoid: Container[Replica] = ()
    avoid_suppliers: Container[str] = ()
    more_context_than: int | None = None  # after a context overflow
    must_continue: bool = False  # only pools that can continue a cut answer
    need: Need = ANY


class Wait(NamedTuple):
    """No replica now; the earliest time at which one might be had."""

    until: float


class Router:
    """Chooses replicas; the owner of every pool's and replica's state."""

    def __init__(self, fleet: Fleet, random: Random, worker: int = 1) -> None:
        """`worker`: which of the fleet's workers chooses here, each with its own part of the replicas' slots."""
        self.random = random  # every chance that policy takes comes from here, so that a seed replays a run
        self._worker = worker
        self.lends = fleet.workers > 1  # slots, to other workers and from them
        self.pools = tuple(PoolState(pool, random, worker, fleet.workers) for pool in fleet.pools)
        self.shares = SupplierShares(fleet.suppliers)
        self.breaches: Counter[str] = Counter()  # attempts beyond a soft share, by supplier
        self._tiers = _tiers_by_model(fleet, self.pools)

    def reload(self, fleet: Fleet) -> None:
        """Take another fleet: what is known of pools and replicas that stay is kept, the others are chosen no more."""
        known = {_identity(state.pool): state for state in self.pools}
        level = max((state.virtual for state in self.pools), default=0.0)
        unplugged = self.unplugged
        states = []
        for pool in fleet.pools:
            state = known.get(_identity(pool))
            if state is None:
                state = PoolState(pool, self.random, self._worker, fleet.workers)
                state.virtual = level  # a new pool has nothing to catch up on
                state.plugged = pool.supplier not in unplugged
            else:
                state.reload(pool, self.random)
            states.append(state)
        self.pools = tuple(states)
        self.shares.reload(fleet.suppliers)
        self._tiers = _tiers_by_model(fleet, self.pools)

    @property
    def replicas(self) -> tuple[Replica, ...]:
        """Every replica of the fleet, in the order of the file."""
        return tuple(replica for state in self.pools for replica in state.replicas)

    def admit(self, at_par: Container[str]) -> None:
        """Let traffic to the pools that need no parity, and of the others to those named in `at_par` alone."""
        for state in self.pools:
            state.admitted = not state.pool.require_parity or state.pool.name in at_par

    def plug(self, supplier: str, *, plugged: bool) -> None:
        """Take a supplier's pools out of the choice, or put them back."""
        for state in self.pools:
            if state.pool.supplier == supplier:
                state.plugged = plugged

    @property
    def unplugged(self) -> frozenset[str]:
        """The suppliers that the operator has taken away."""
        return frozenset(state.pool.supplier for state in self.pools if not state.plugged)

    def spreads(self, model: str) -> bool:
        """Return whether there is a choice of replicas of this model in which a prompt's beginning matters."""
        return any(tier.has_homes for tier in self._tiers.get(model, ()))

    def serves(self, model: str) -> bool:
        """Return whether the fleet has a pool for this model."""
        return model in self._tiers

    def ready(self, model: str) -> bool:
        """Return whether at least one replica of the model is not known to be down."""
        return any(
            replica.circuit.state is not CircuitState.OPEN
            for state in self._admitted(model)
            for replica in state.replicas
        )

    def soonest(self, model: str, now: float) -> float:
        """Return the earliest time at which a replica of the model might be asked."""
        replicas = (replica for state in self._admitted(model) for replica in state.replicas)
        return min((replica.circuit.ready_at(now) for replica in replicas), default=now)

    def slots(self, model: str, now: float) -> int:
        """Return how many attempts the model's replicas bear now; one that may not be asked, those it has."""
        slots, states = 0.0, self._admitted(model)
        closed = self._closed(states, now) if self.shares.any else ()
        for state in states:
            for replica in state.replicas:
                circuit = replica.circuit
                if not circuit.allows(now) or state.pool.supplier in closed:
                    slots += replica.in_flight
                elif circuit.state is CircuitState.CLOSED:
                    slots += max(replica.limit, replica.in_flight)
                else:
                    slots += replica.in_flight + 1
        return int(min(slots, MANY))

    def lent(self, model: str, now: float) -> Lent:
        """Return the slots that workers lend each other at the model's replicas."""
        each = [replica.lent() for replica in _well(self._tiers.get(model, ()), now)]
        return Lent(sum(one.taken for one in each), sum(one.left for one in each))

    def _closed(self, states: list[PoolState], now: float) -> frozenset[str]:
        """Return the suppliers that get nothing now, whoever else is full: those at a hard share."""
        suppliers = [state.pool.supplier for state in states]
        allowed = self.shares.may_have(suppliers, 1, now).suppliers
        return frozenset(one for one in suppliers if one not in allowed and self.shares.is_hard(one))

    def better_soon(self, model: str, now: float) -> bool:
        """Return whether an urgent request does better to wait for a slot than to take the best of those free."""
        tiers = self._tiers.get(model, ())
        return bool(tiers) and better_soon(_well(tiers[:1], now), tiers[0].average, now)

    def reads_s(self, model: str, size: int) -> float:
        """Return how long a replica takes to read a request of so many bytes, by the fastest pool."""
        return min((state.speed.s_per_byte for state in self._admitted(model)), default=0.0) * size

    def most_kept(self, model: str, loss: float) -> float | None:
        """Return which part of the slots may be left free for `loss` of what is made; None while nobody knows."""
        known = [state.batching.most_kept(loss) for state in self._admitted(model)]
        return min((part for part in known if part is not None), default=None)

    def beyond_enough(self, model: str) -> int:
        """Return how many slots there are beyond those by which each replica has enough to do."""
        each = [(one.limit, state.workers) for state in self._admitted(model) for one in state.replicas]
        return int(sum(max(limit - ENOUGH / workers, 0.0) for limit, workers in each if limit != inf))

    def may_read_s(self, model: str, spared: Spared, now: float) -> float:
        """Return how long a worse lane's prompt may be read, lest the best lane find no replica that is not reading."""
        return may_read_s(_well(self._tiers.get(model, ()), now), spared, now)

    def any_idle(self, model: str, now: float) -> bool:
        """Return whether a replica that bears several attempts has none from here."""
        replicas = _well(self._tiers.get(model, ()), now)
        return any(not one.in_flight and one.limit > ENOUGH / one.state.workers for one in replicas)

    def has_larger(self, model: str, context_tokens: int) -> bool:
        """Return whether a pool of the model takes a longer context than this."""
        return any((state.pool.context_tokens or 0) > context_tokens for state in self._admitted(model))

    def _admitted(self, model: str) -> list[PoolState]:
        tiers = self._tiers.get(model, ())
        return [state for tier in tiers for state in tier.states if state.admitted and state.plugged]

    def has(self, wanted: Wanted, now: float) -> bool:
        """Return whether a replica could be chosen now, without choosing it."""
        return any(
            replica not in wanted.avoid and replica.circuit.allows(now) and replica.has_room(urgent=wanted.need.urgent)
            for tier in self._tiers.get(wanted.model, ())
            for state in tier.states
            if _fits(state, wanted)
            for replica in state.replicas
        )

    def choose(self, wanted: Wanted, now: float) -> Replica | Wait | None:
        """Return a replica, or when to ask again, or None when no replica fits even in time.

        The replica's slot is claimed: what is not sent there has to `forgo` it.
        """
        found = self._choose(wanted, now)
        if isinstance(found, Replica) and not found.claim():
            return Wait(now)  # another worker has just taken the last slot
        return found

    def _choose(self, wanted: Wanted, now: float) -> Replica | Wait | None:
        earliest: float | None = None
        avoid, urgent = wanted.avoid, wanted.need.urgent
        over_all = self.shares.any  # whoever has room in any tier counts for the shares of the spend
        found: list[tuple[Tier, list[Usable]]] = []
        for tier in self._tiers.get(wanted.model, ()):
            usable: list[Usable] = []
            for state in tier.states:
                if not _fits(state, wanted):
                    continue
                free = []
                for replica in state.replicas:
                    if avoid and replica in avoid:
                        continue
                    if replica.circuit.allows(now) and replica.has_room(urgent=urgent):
                        free.append(replica)
                    else:
                        ready_at = replica.circuit.ready_at(now)
                        earliest = ready_at if earliest is None else min(earliest, ready_at)
                if free:
                    usable.append((state, free))
            if usable:
                if not over_all:
                    return self._pick(tier, usable, wanted.need, now)
                found.append((tier, usable))
        if found:
            return self._pick_within_shares(found, wanted.need, now)
        return None if earliest is None else Wait(earliest)

    def _pick_within_shares(self, found: list[tuple["Tier", list["Usable"]]], need: Need, now: float) -> Replica | Wait:
        having_room = [state.pool.supplier for _, usable in found for state, _ in usable]
        verdict = self.shares.may_have(having_room, need.nano_usd, now)
        for tier, usable in found:
            allowed = [one for one in usable if one[0].pool.supplier in verdict.suppliers]
            if allowed:
                replica = self._pick(tier, allowed, need, now, held_back=len(allowed) < len(usable))
                if verdict.breach:
                    self.breaches[replica.pool.supplier] += 1
                return replica
        return Wait(now + HARD_CAP_WAIT_S)

    def _pick(
        self, tier: "Tier", usable: list["Usable"], need: Need, now: float, *, held_back: bool = False
    ) -> Replica:
        # Stride scheduling by work: the pool furthest behind its weight is next. One that was away is lifted level
        # with the others, so that it does not catch up in a flood when it returns; one that its supplier's share
        # holds back now catches up, lest the caps bend the plan.
        tier.average += AVERAGING * (need.work - tier.average)
        level = min(one[0].virtual for one in usable)
        lift = level - (CATCHES_UP * tier.average if held_back else 0.0)
        for other in tier.states:
            other.virtual = max(other.virtual, lift)
        replica = tier.at_home(usable, need, level, now)
        if replica is None:
            state, free = usable[0] if len(usable) == 1 else min(usable, key=_behind)
            replica = self._least_loaded(free, need, now)
            tier.note(replica, need)
        state = replica.state
        state.virtual = max(state.virtual, level) + need.work / state.pool.weight
        return replica

    def _least_loaded(self, free: list[Replica], need: Need, now: float) -> Replica:
        if len(free) == 1:
            return free[0]
        if need.urgent:
            near = with_least_to_read(free, now)
        else:
            near = calm(free, need.calm_s, now)
            least = min(replica.in_flight for replica in near)
            near = [replica for replica in near if replica.in_flight == least]
        if len(near) == 1:
            return near[0]
        first = int(self.random.random() * len(near))
        second = int(self.random.random() * (len(near) - 1))
        one, two = near[first], near[second + (second >= first)]
        return one if one.in_flight <= two.in_flight else two


Usable = tuple[PoolState, list[Replica]]


class Tier:
    """The pools of one model and one order."""

    __slots__ = ("_affinity", "_places", "average", "states")

    def __init__(self, states: tuple[PoolState, ...]) -> None:
        self.states = states
        self.average = 1.0  # work of a request
        replicas = [replica for state in states for replica in state.replicas]
        self._places = {replica: place for place, replica in enumerate(replicas)}
        names = [f"{replica.pool.name} {replica.url}" for replica in replicas]
        self._affinity = PrefixAffinity(names) if len(names) > 1 else None

    @property
    def has_homes(self) -> bool:
        """Whether there is more than one replica."""
        return self._affinity is not None

    def at_home(self, usable: list[Usable], need: Need, level: float, now: float) -> Replica | None:
        """Return the replica at which a conversation is at home, unless its pool is far ahead of its weight."""
        if self._affinity is None or not need.blocks:
            return None
        room = [False] * len(self._places)
        here: dict[int, Replica] = {}
        most = left_s = inf
        if not self._affinity.knows(need.blocks):  # nothing is cached yet: not where others are read first
            near = [replica for _, free in usable for replica in free]
            if need.urgent:
                near = with_least_to_read(near, now)
                left_s = near[0].reading.left_s(now)
            most = BUSIER + min(replica.in_flight for replica in near)
        for state, free in usable:
            if state.virtual - level <= AHEAD * self.average / state.pool.weight:
                for replica in free:
                    if replica.in_flight <= most and replica.reading.left_s(now) <= left_s:
                        place = self._places[replica]
                        room[place], here[place] = True, replica
        chosen = self._affinity.choose(need.blocks, need.work, room, now)
        return None if chosen is None else here[chosen]

    def note(self, replica: Replica, need: Need) -> None:
        """Count the work of a prompt that is at home nowhere."""
        if self._affinity is not None:
            self._affinity.correct(self._places[replica], need.work)


def _well(tiers: tuple[Tier, ...], now: float) -> Iterator[Replica]:
    """Return the replicas that may be asked and are not on trial."""
    for tier in tiers:
        for state in tier.states:
            if state.admitted and state.plugged:
                for replica in state.replicas:
                    if replica.circuit.state is CircuitState.CLOSED and replica.circuit.allows(now):
                        yield replica


def _behind(usable: Usable) -> float:
    return usable[0].virtual


def _fits(state: PoolState, wanted: Wanted) -> bool:
    pool = state.pool
    if not state.admitted or not state.plugged:
        return False
    if pool.supplier in wanted.avoid_suppliers:
        return False
    if wanted.must_continue and state.continuation is Continuation.NONE:
        return False
    if wanted.more_context_than is not None:
        return pool.context_tokens is not None and pool.context_tokens > wanted.more_context_than
    return True


def _identity(pool: Pool) -> tuple[str, ...]:
    """Return what makes a pool the one it was: by another name, model, supplier, chip or key it is a new one."""
    return pool.name, pool.supplier, pool.chip, pool.model, pool.upstream_model, pool.api_key_env or ""


def _tiers_by_model(fleet: Fleet, states: tuple[PoolState, ...]) -> Mapping[str, tuple[Tier, ...]]:
    return {model: _tiers([state for state in states if state.pool.model == model]) for model in fleet.models}


def _tiers(states: list[PoolState]) -> tuple[Tier, ...]:
    orders = sorted({state.pool.order for state in states})
    return tuple(Tier(tuple(state for state in states if state.pool.order == order)) for order in orders)
