"""The limits of keys and tenants at the edge: asked before a request may queue, settled when its books are."""

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from secondsource.core.fleet import Fleet
from secondsource.core.records import Outcome
from secondsource.gateway.authentication import Principal
from secondsource.gateway.client import Lines
from secondsource.gateway.exchange import Exchange
from secondsource.policy.limits import (
    Exceeded,
    Limits,
    Meter,
    MeterFactory,
    MeterId,
    PastUse,
    Reservation,
    Short,
    Use,
    WindowMeter,
    replay,
)

TENANTS_TOKENS = frozenset({Outcome.OK, Outcome.CLIENT_GONE})


class LimitsSource(Protocol):
    """Where a worker gets more of a limit from, when what it holds is not enough for a request."""

    def ask(self, wants: Sequence[tuple[MeterId, int]], then: Callable[[], None]) -> None:
        """Ask for at least so much; calls `then` once when there is an answer, or will be none."""


class Nowhere:
    """One process counts all there is: nobody has more."""

    def ask(self, wants: Sequence[tuple[MeterId, int]], then: Callable[[], None]) -> None:
        """Say so at once."""
        then()


class Limiting:
    """What keys and tenants may use."""

    def __init__(self, fleet: Fleet, make: MeterFactory = WindowMeter, source: LimitsSource | None = None) -> None:
        self.limits = Limits(fleet.keys, fleet.tenants, make)
        self._source: LimitsSource = source or Nowhere()

    def reload(self, fleet: Fleet) -> None:
        """Take the keys and tenants as they are now; what was used is kept."""
        self.limits.reload(fleet.keys, fleet.tenants)

    def replay(self, past: Sequence[PastUse]) -> None:
        """Count what was used before this process started."""
        replay(self.limits.meters(), past)

    def of(self, principal: Principal) -> tuple[Meter, ...]:
        """Return the limits that a request of this key runs under."""
        return self.limits.of(principal.sha256, principal.tenant)

    def reserve(self, exchange: Exchange, most: Use, then: Callable[[Exceeded | None], None]) -> None:
        """Reserve for a request and call `then` with the limit that it would break, if there is one."""
        found = self._reserve(exchange, most, asked=False)
        if isinstance(found, Short):
            self._source.ask(found.wants, lambda: then(self._after_asking(exchange, most)))
        else:
            then(found)

    def _after_asking(self, exchange: Exchange, most: Use) -> Exceeded | None:
        found = self._reserve(exchange, most, asked=True)
        assert not isinstance(found, Short)
        return found

    def _reserve(self, exchange: Exchange, most: Use, *, asked: bool) -> Exceeded | Short | None:
        principal, now = exchange.principal, time.time()
        found = self.limits.reserve(principal.sha256, principal.tenant, most, now, asked=asked)
        if isinstance(found, Short):
            return found
        if isinstance(found, Reservation):
            exchange.reservation = found
        exchange.told = self.headers(principal, now)
        return found if isinstance(found, Exceeded) else None

    def headers(self, principal: Principal, now: float) -> Lines:
        """Return the `x-ratelimit-*` headers of a key."""
        said = self.limits.headers(principal.sha256, principal.tenant, now)
        return [(name.encode(), value.encode()) for name, value in said]

    def settle(self, exchange: Exchange) -> None:
        """Replace what was reserved with what was used: by attempts whose cost the tenant bears."""
        reservation, exchange.reservation = exchange.reservation, None
        if reservation is None:
            return
        now = time.time()
        if not exchange.booked:
            self.limits.cancel(reservation, now)
            return
        settled = [one for _, one in exchange.booked]
        tokens = sum(one.tokens_in + one.tokens_out for one in settled if one.outcome in TENANTS_TOKENS)
        self.limits.settle(reservation, Use(tokens, sum(one.tenant_nano_usd for one in settled)), now)
