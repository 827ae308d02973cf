"""What keys and tenants may use: reserved before an attempt, settled after it, and never more than allowed.

A minute is any sixty seconds, a day is a day of UTC. Times are seconds since 1970. A request reserves the most that
it can use; what it did use replaces that when it is settled, so that a limit is overrun by no more than what a
reservation was short.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

from secondsource.core.fleet import Allowance, Key, Tenant
from secondsource.policy.usage_window import UsageWindow

MINUTE_SLOTS = 61  # seconds: with sixty, two bursts could lie less than sixty seconds apart and both count as one
DAY_S = 86_400.0
KEY_ID_DIGITS = 12  # of a key's SHA-256, in the ledger
LEASE_SLOTS = 2  # how much longer a second counts where workers spend what was counted a little before


class Measure(StrEnum):
    """What is counted."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    NANO_USD = "usd"


class MeterId(NamedTuple):
    """Which limit: of a key (by its SHA-256) or a tenant (by its name), on what, over which period."""

    holder: str  # "key" or "tenant"
    name: str
    measure: Measure
    per: str  # "minute" or "day"


class Meter(Protocol):
    """One limit and what was used of it."""

    id: MeterId
    limit: int

    def room(self, now: float) -> int:
        """Return how much may be used now."""

    def add(self, amount: int, now: float) -> int:
        """Use an amount; returns what `amend` wants."""

    def amend(self, mark: int, difference: int, now: float) -> None:
        """Correct what was used."""

    def free_at(self, amount: int, now: float) -> float:
        """Return when this amount may be used, if nothing else is."""

    def remaining(self, now: float) -> int:
        """Return what is left, to tell the client."""

    def may_be_had(self, amount: int) -> bool:
        """Return whether somebody else may have this amount to give."""


class WindowMeter:
    """A limit counted here."""

    __slots__ = ("_window", "id", "limit")

    def __init__(self, meter_id: MeterId, limit: int, later_slots: int = 0) -> None:
        self.id = meter_id
        self.limit = limit
        by_day = meter_id.per == "day"
        self._window = UsageWindow(DAY_S, 1) if by_day else UsageWindow(1.0, MINUTE_SLOTS + later_slots)

    def room(self, now: float) -> int:
        """Return how much may be used now; below 0 after an overrun."""
        self._window.advance(now)
        return self.limit - self._window.total

    def remaining(self, now: float) -> int:
        """Return what is left, to tell the client."""
        return max(self.room(now), 0)

    def add(self, amount: int, now: float) -> int:
        """Use an amount; returns its slot."""
        return self._window.add(amount, now)

    def amend(self, mark: int, difference: int, now: float) -> None:
        """Correct what was used in a slot."""
        self._window.amend(mark, difference, now)

    def free_at(self, amount: int, now: float) -> float:
        """Return when this amount may be used, if nothing else is."""
        missing = amount - self.room(now)
        return now if missing <= 0 else self._window.frees_at(missing)

    def may_be_had(self, amount: int) -> bool:
        """Nobody else has any."""
        return False


class Use(NamedTuple):
    """What a request uses, or may use at the most."""

    tokens: int
    nano_usd: int


class PastUse(NamedTuple):
    """What a key of a tenant used before the process started, as the ledger has it; `at` in seconds since 1970."""

    key_id: str  # the first digits of the key's SHA-256
    tenant: str
    at: float
    requests: int
    use: Use


class Reservation(NamedTuple):
    """What was reserved: of which meters, how much, and where it is counted."""

    parts: tuple[tuple[Meter, int, int], ...]


class Exceeded(NamedTuple):
    """Which limit a request would break: the facts of the 429."""

    id: MeterId
    limit: int
    remaining: int
    resets_in_s: float

    @property
    def reason(self) -> str:
        """The value of `x-secondsource-refused`."""
        return f"rejected-{self.id.measure}-per-{self.id.per}"

    @property
    def message(self) -> str:
        """What a person reads in the error's body."""
        scale = 10**9 if self.id.measure is Measure.NANO_USD else 1
        limit, left = f"{self.limit / scale:,.10g}", f"{self.remaining / scale:,.10g}"
        whose = "this key" if self.id.holder == "key" else f'tenant "{self.id.name}"'
        return (
            f"{whose} may use {limit} {self.id.measure} per {self.id.per}, of which {left} is left, less than this "
            f"request may need; try again in {self.resets_in_s:.0f} s"
        )


class Short(NamedTuple):
    """Slices that a worker must ask its coordinator for before it can say: which meter, and how much at least."""

    wants: tuple[tuple[MeterId, int], ...]


MeterFactory = Callable[[MeterId, int], Meter]


class Limits:
    """The meters of all keys and tenants that have a limit."""

    __slots__ = ("_by_key", "_by_tenant", "_make")

    def __init__(self, keys: Iterable[Key], tenants: Iterable[Tenant], make: MeterFactory = WindowMeter) -> None:
        self._make = make
        self._by_key: dict[str, tuple[Meter, ...]] = {}
        self._by_tenant: dict[str, tuple[Meter, ...]] = {}
        self.reload(keys, tenants)

    def reload(self, keys: Iterable[Key], tenants: Iterable[Tenant]) -> None:
        """Hold these keys and tenants to what they may use now; what was used of a limit that stays is kept."""
        kept = {meter.id: meter for meter in self.meters()}
        self._by_key = {key.sha256: self._meters("key", key.sha256, key.allowance, kept) for key in keys}
        self._by_tenant = {one.name: self._meters("tenant", one.name, one.allowance, kept) for one in tenants}

    def _meters(self, holder: str, name: str, allowance: Allowance, kept: Mapping[MeterId, Meter]) -> tuple[Meter, ...]:
        meters = []
        for meter_id, limit in allowances(holder, name, allowance):
            meter = kept.get(meter_id) or self._make(meter_id, limit)
            meter.limit = limit
            meters.append(meter)
        return tuple(meters)

    def meters(self) -> Iterator[Meter]:
        """Yield every meter."""
        for meters in (*self._by_key.values(), *self._by_tenant.values()):
            yield from meters

    def of(self, key: str, tenant: str) -> tuple[Meter, ...]:
        """Return the meters that a request of this key and tenant runs under."""
        return self._by_key.get(key, ()) + self._by_tenant.get(tenant, ())

    def reserve(
        self, key: str, tenant: str, most: Use, now: float, *, asked: bool = False
    ) -> Reservation | Exceeded | Short:
        """Reserve the most that a request may use under all its limits, or under none of them.

        `asked`: the coordinator has answered to a `Short` for this request, so that what is not here is nowhere.
        """
        meters = self.of(key, tenant)
        if not meters:
            return Reservation(())
        wants = []
        for meter in meters:
            amount = _amount(meter.id.measure, most)
            if amount > meter.room(now):
                if asked or not meter.may_be_had(amount):
                    return Exceeded(meter.id, meter.limit, meter.remaining(now), meter.free_at(amount, now) - now)
                wants.append((meter.id, amount))
        if wants:
            return Short(tuple(wants))
        amounts = [(meter, _amount(meter.id.measure, most)) for meter in meters]
        return Reservation(tuple((meter, meter.add(amount, now), amount) for meter, amount in amounts))

    def settle(self, reservation: Reservation, used: Use, now: float) -> None:
        """Replace what was reserved with what was used; the request itself stays counted."""
        for meter, mark, amount in reservation.parts:
            difference = _amount(meter.id.measure, used) - amount
            if difference:
                meter.amend(mark, difference, now)

    def cancel(self, reservation: Reservation, now: float) -> None:
        """Give back all that was reserved for a request that was never sent to anybody."""
        for meter, mark, amount in reservation.parts:
            meter.amend(mark, -amount, now)

    def headers(self, key: str, tenant: str, now: float) -> list[tuple[str, str]]:
        """Return the `x-ratelimit-*` headers: of each measure, those of the limit with the least left."""
        tightest: dict[Measure, tuple[float, Meter]] = {}
        for meter in self.of(key, tenant):
            part = meter.remaining(now) / max(meter.limit, 1)
            found = tightest.get(meter.id.measure)
            if found is None or part < found[0]:
                tightest[meter.id.measure] = (part, meter)
        return [header for measure, (_, meter) in tightest.items() for header in _headers(measure, meter, now)]


def allowances(holder: str, name: str, allowance: Allowance) -> list[tuple[MeterId, int]]:
    """Return the limits of one key or tenant, each with the identity of its meter."""
    said = (
        (Measure.REQUESTS, "minute", allowance.requests_per_minute),
        (Measure.REQUESTS, "day", allowance.requests_per_day),
        (Measure.TOKENS, "minute", allowance.tokens_per_minute),
        (Measure.TOKENS, "day", allowance.tokens_per_day),
        (Measure.NANO_USD, "minute", allowance.nano_usd_per_minute),
        (Measure.NANO_USD, "day", allowance.nano_usd_per_day),
    )
    return [(MeterId(holder, name, measure, per), limit) for measure, per, limit in said if limit is not None]


def replay(meters: Iterable[Meter], past: Iterable[PastUse]) -> None:
    """Count what was used before this process started; `past` in order of time, older than everything counted yet."""
    by_holder: dict[tuple[str, str], list[Meter]] = {}
    for meter in meters:
        name = meter.id.name[:KEY_ID_DIGITS] if meter.id.holder == "key" else meter.id.name
        by_holder.setdefault((meter.id.holder, name), []).append(meter)
    for one in past:
        for meter in (*by_holder.get(("key", one.key_id), ()), *by_holder.get(("tenant", one.tenant), ())):
            counts = meter.id.measure is Measure.REQUESTS
            meter.add(one.requests if counts else _amount(meter.id.measure, one.use), one.at)


def _amount(measure: Measure, use: Use) -> int:
    if measure is Measure.REQUESTS:
        return 1
    return use.tokens if measure is Measure.TOKENS else use.nano_usd


def _headers(measure: Measure, meter: Meter, now: float) -> Sequence[tuple[str, str]]:
    remaining = meter.remaining(now)
    resets_in_s = max(meter.free_at(meter.limit, now) - now, 0.0)
    scale = 10**9 if measure is Measure.NANO_USD else 1
    return (
        (f"x-ratelimit-limit-{measure}", f"{meter.limit / scale:.10g}"),
        (f"x-ratelimit-remaining-{measure}", f"{remaining / scale:.10g}"),
        (f"x-ratelimit-reset-{measure}", f"{resets_in_s:.3f}s"),
    )
