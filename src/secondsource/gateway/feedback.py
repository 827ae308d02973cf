"""What attempts teach: how long requests take, how many a replica bears, and what suppliers had of the spend."""

import logging
import time

from secondsource.core.fleet import Fleet
from secondsource.core.records import Outcome, Reserved, Settled
from secondsource.gateway.attempts.attempt import Attempt
from secondsource.gateway.exchange import Exchange
from secondsource.gateway.meter import Meter
from secondsource.policy.concurrency import read_orca
from secondsource.policy.expectation import OVERHEAD_S, Expectation
from secondsource.policy.routing import Router
from secondsource.policy.supplier_share import Booked
from secondsource.policy.views import SupplierView

ORCA = b"endpoint-load-metrics"
SAID_AGAIN_S = 60.0  # how often a supplier's breach is logged


class Feedback:
    """Tells policy what became of attempts."""

    def __init__(self, fleet: Fleet, router: Router, meter: Meter) -> None:
        self._router = router
        self._meter = meter
        self._booked: dict[str, Booked] = {}  # by attempt, while there are caps
        self._said: dict[str, float] = {}
        self._tpot_s: dict[str, float] = {}
        self._fleet = fleet
        self.reload(fleet)

    def reload(self, fleet: Fleet) -> None:
        """Take lanes and suppliers as they are now."""
        self._fleet = fleet
        self._tpot_s = {lane.name: lane.tpot_s for lane in fleet.lanes if lane.tpot_s is not None}

    def reserved(self, reserved: Reserved, expected_nano_usd: float) -> bool:
        """Count what an attempt is expected to cost, as it is sent; returns whether a cap is broken by it."""
        shares = self._router.shares
        if shares.any:
            nano_usd = max(int(expected_nano_usd), 1)
            self._booked[reserved.attempt_id] = shares.book(reserved.supplier, nano_usd, time.monotonic())
            if self._router.breaches:  # the choice of just now
                self._tell_breaches()
                return True
        return False

    def settled(self, settled: Settled) -> None:
        """Count what it did cost."""
        booked = self._booked.pop(settled.attempt_id, None)
        if booked is not None:
            self._router.shares.settle(booked, settled.cost_nano_usd, time.monotonic())

    def ended(self, exchange: Exchange, attempt: Attempt, settled: Settled, expectation: Expectation) -> None:
        """Learn from an attempt that the books have."""
        replica, now = attempt.plan.replica, time.monotonic()
        streamed = exchange.ask.stream and not exchange.size.pixel_steps  # a partial image is no first token
        if settled.outcome is Outcome.THROTTLED:
            replica.throttled(now)
        elif settled.outcome is Outcome.OK:
            expectation.learn(exchange.size, settled, replica.pool.price, streamed=streamed)
            if streamed:
                read_s = replica.state.speed.s_per_byte * exchange.size.body_bytes
                unloaded_s = OVERHEAD_S + attempt.behind_s + read_s  # a prompt before it is no overload
                replica.first_token(settled.first_token_ns / 1e9, unloaded_s, now)
                writing_s = (settled.duration_ns - settled.first_token_ns) / 1e9
                replica.answered(settled.tokens_out, writing_s, settled.duration_ns / max(settled.replica_ns, 1))
                promised_s = self._tpot_s.get(exchange.principal.lane)
                if promised_s is not None and settled.tokens_out > 1:
                    replica.wrote(writing_s / (settled.tokens_out - 1), promised_s, now)
        report = attempt.headers.get(ORCA)
        if report is not None:
            replica.load_reported(read_orca(report.decode("latin-1")), now)

    def _tell_breaches(self) -> None:
        now = time.monotonic()
        for supplier, count in self._router.breaches.items():
            self._meter.cap_breaches[supplier] += count
            if now - self._said.get(supplier, -SAID_AGAIN_S) >= SAID_AGAIN_S:
                self._said[supplier] = now
                logging.getLogger("secondsource").warning(
                    "supplier %s has %.1f%% of the spend, more than its share: no other has room, and its cap is soft",
                    supplier,
                    100.0 * self._router.shares.share(supplier, now),
                )
        self._router.breaches.clear()

    def views(self) -> list[SupplierView]:
        """Return every supplier's part of the spend in its window; None without a cap, for nobody counts it."""
        shares, now, found = self._router.shares, time.monotonic(), []
        for one in self._fleet.suppliers:
            capped = one.max_share is not None
            found.append(
                SupplierView(
                    supplier=one.name,
                    share=shares.share(one.name, now) if capped else None,
                    max_share=one.max_share,
                    share_window_s=one.share_window_s,
                    cap=one.cap,
                    capped=capped and shares.at_cap(one.name, 1, now),
                    breaches=self._meter.cap_breaches.get(one.name, 0),
                )
            )
        return found
