"""Find whole units by a beam search: month after month, unit after unit, the fleets that lose least are kept.

What a fleet loses is reckoned at the relaxation's prices (`planner.ground`), so that fleets of different units and
starts can be told apart before their last month is known. A month's fleets are those of the month before, with units
added until every row of the month is kept; of those that keep it and those that do not yet, the best `width` go on.
The best one's traffic is routed before the next month begins, and a row that it misses is held against all of them.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy
from numpy.typing import NDArray

from secondsource.planner.ground import Ground, MonthRows
from secondsource.planner.projection import Numbers

_NEAREST = 40  # offers that are looked at in a month: those that lose least
_SHORT = 0.7  # of what is still to be served, at its price: what it is taken to lose
_SUPPLY_SHORT = 2.0  # the same of rent above a supplier's share, and the like
_TOLERANCE = 1e-7
_SPARE = 3  # times the width: fleets looked at before equal ones are dropped
_CHECKS = 60  # of a month's best fleet
_UNITS = 2000  # at most added in one month
_ROUNDS = 40  # of a whole search, each held against the rows that the one before missed
_WIDE = 0.9  # of the time a search is as wide as asked for,
_NARROW = 30  # then at most so wide
_DIGITS = 9  # of a key
_ROUGH = numpy.float32  # for what decides which fleets are looked at, not whether they keep a row
_AT_ONCE = 2_000_000  # numbers in memory

Indexes = NDArray[numpy.integer[Any]]
Starts = NDArray[numpy.int64]  # units started, by month and offer


@dataclass(frozen=True, slots=True)
class Fleets:
    """Fleets of one month, a row each: units in service and added this month, by offer.

    `parent` is the fleet of the month before, `lost` what was lost up to then and by the units added, `key` tells
    fleets apart.
    """

    units: Numbers
    added: Starts
    parent: Indexes
    lost: Numbers
    key: Numbers

    def take(self, rows: Indexes | NDArray[numpy.bool_]) -> "Fleets":
        """Return some of the fleets."""
        return Fleets(self.units[rows], self.added[rows], self.parent[rows], self.lost[rows], self.key[rows])

    def join(self, other: "Fleets") -> "Fleets":
        """Return both."""
        return Fleets(
            numpy.concatenate([self.units, other.units]),
            numpy.concatenate([self.added, other.added]),
            numpy.concatenate([self.parent, other.parent]),
            numpy.concatenate([self.lost, other.lost]),
            numpy.concatenate([self.key, other.key]),
        )


def find_starts(ground: Ground, width: int, until: float, say: Callable[[str], None]) -> Starts | None:
    """Return units started that keep every row and whose traffic can be routed in every case; None where none is found.

    `until` is a time of the monotonic clock: the nearer it is the narrower the search becomes, so that it comes to an
    end with a plan. After it one fleet a month goes on.
    """
    began = time.monotonic()
    layers: list[Fleets] = []
    months = len(ground.months)
    for _ in range(_ROUNDS):
        while len(layers) < months:
            here = _narrowed(width, began, until)
            say(f"whole units: month {len(layers) + 1} of {months}, {here} ways at once")
            layer = _month(ground, layers, here)
            if layer is None:
                return None
            layers.append(layer)
        starts = _trace(layers)
        units = ground.in_service(starts)
        missed = [month for month in range(months) if ground.missed(month, units[month])]
        if not missed:
            return starts
        del layers[missed[0] :]
    return None


def _narrowed(width: int, began: float, until: float) -> int:
    """Return how many fleets go on by the time: all, few when it draws to its end, one after that."""
    now = time.monotonic()
    if now >= until:
        return 1
    return width if now - began < _WIDE * (until - began) else min(width, _NARROW)


def _trace(layers: list[Fleets]) -> Starts:
    """Return the units started of the last month's best fleet."""
    at = 0
    added = []
    for layer in reversed(layers):
        added.append(layer.added[at])
        at = int(layer.parent[at])
    starts: Starts = numpy.array(added[::-1])
    return starts


def _month(ground: Ground, layers: list[Fleets], width: int) -> Fleets | None:
    """Return the best fleets of the month after those given, the best one routed; None where there is none."""
    month = len(layers)
    rows = ground.months[month]
    order = numpy.argsort(rows.loss, kind="stable")
    possible = order[: int(numpy.isfinite(rows.loss).sum())]
    for offers in (possible[:_NEAREST], possible):
        fleets: Fleets | None = _carried(ground, layers)
        for _ in range(_CHECKS):
            fleets = _serve(rows, fleets, offers, width) if fleets is not None else None
            if fleets is None or not ground.missed(month, fleets.units[0]):
                break
        if fleets is not None:
            left = numpy.maximum(fleets.units @ rows.rates.T - rows.asked, 0.0)
            return replace(fleets, lost=fleets.lost + left @ rows.prices)
    return None


def _carried(ground: Ground, layers: list[Fleets]) -> Fleets:
    """Return the fleets that run on into the month after those given, with what has to be started in it."""
    least = ground.months[len(layers)].least
    if not layers:
        one = numpy.zeros(1)
        units = least[None, :].astype(float)
        return Fleets(units, least[None, :].copy(), one.astype(numpy.int64), one, _keys(units))
    last = layers[-1]
    units = last.units.copy()
    at: Indexes = numpy.arange(len(units))
    for back, layer in enumerate(reversed(layers), start=1):
        ending = ground.terms == back
        if ending.any():
            units[:, ending] -= layer.added[at][:, ending]
        at = layer.parent[at]
    units += least
    return Fleets(units, numpy.zeros_like(last.added) + least, numpy.arange(len(units)), last.lost, _keys(units))


def _keys(units: Numbers) -> Numbers:
    """Return a number for each fleet by which equal ones are known."""
    keys: Numbers = numpy.round(units @ _weights(units.shape[1]), _DIGITS)
    return keys


def _weights(offers: int) -> Numbers:
    return numpy.random.default_rng(0).random(offers)


def _serve(rows: MonthRows, fleets: Fleets, offers: Indexes, width: int) -> Fleets | None:
    """Return the best fleets that keep the month's rows, with units added where they are needed; None for none."""
    done: Fleets | None = None
    lost = numpy.zeros(0)  # of those that are done, up to the end of the month
    left: Numbers = fleets.units @ rows.rates.T - rows.asked
    for _ in range(_UNITS):
        kept: NDArray[numpy.bool_] = numpy.all(left >= -_TOLERANCE, axis=1)
        if kept.any():
            done = fleets.take(kept) if done is None else done.join(fleets.take(kept))
            lost = numpy.concatenate([lost, fleets.lost[kept] + numpy.maximum(left[kept], 0.0) @ rows.prices])
            best = _once(numpy.argsort(lost, kind="stable"), done.key, width)
            done, lost = done.take(best), lost[best]
        fleets, left = fleets.take(~kept), left[~kept]
        if not len(left) or not len(offers):
            break
        limit = float(lost[-1]) if len(lost) == width else math.inf
        fleets, left = _extend(rows, fleets, left, offers, width, limit)
    return done


def _once(order: Indexes, key: Numbers, count: int) -> Indexes:
    """Return the first of an order, those of equal keys once."""
    _, first = numpy.unique(key[order], return_index=True)
    return order[numpy.sort(first)[:count]]


def _extend(
    rows: MonthRows, fleets: Fleets, left: Numbers, offers: Indexes, width: int, limit: float
) -> tuple[Fleets, Numbers]:
    """Return the best fleets with one unit more, of those that are likely to lose less than the limit in the end.

    With them comes what they have left over of each row.
    """
    step = max(1, _AT_ONCE // max(1, len(offers) * len(rows.asked)))
    parts = [
        _estimate(rows, fleets.take(numpy.arange(at, min(at + step, len(left)))), left[at : at + step], offers)
        for at in range(0, len(left), step)
    ]
    likely = numpy.concatenate(parts).ravel()
    likely[likely >= limit] = math.inf
    count = min(_SPARE * width, len(likely))
    order = numpy.argpartition(likely, count - 1)[:count]
    order = order[numpy.isfinite(likely[order])]
    order = order[numpy.argsort(likely[order], kind="stable")]
    fleet, which = numpy.divmod(order, len(offers))
    key = numpy.round(fleets.key[fleet] + _weights(len(rows.loss))[offers[which]], _DIGITS)
    first = _once(numpy.arange(len(order)), key, width)
    fleet, chosen = fleet[first], offers[which[first]]
    more = fleets.take(fleet)
    place = numpy.arange(len(first))
    more.units[place, chosen] += 1.0
    more.added[place, chosen] += 1
    return replace(more, lost=more.lost + rows.loss[chosen], key=key[first]), left[fleet] + rows.rates[:, chosen].T


def _estimate(rows: MonthRows, fleets: Fleets, left: Numbers, offers: Indexes) -> Numbers:
    """Return what fleets are likely to lose with a unit more, by fleet and offer; infinite for a unit of no use.

    Rows kept lose what they have left over at its price; rows not yet kept a part of what they are short of.
    """
    rates = rows.rates[:, offers].T
    after = left[:, None, :].astype(_ROUGH) + rates[None, :, :].astype(_ROUGH)
    numpy.minimum(after, 0.0, out=after)
    lost: Numbers = (left @ rows.prices)[:, None] + (rates @ rows.prices)[None, :]
    lost += fleets.lost[:, None] + rows.loss[offers][None, :]
    lost -= after @ (rows.prices + _short_prices(rows)).astype(_ROUGH)
    helps = rates > 0
    fixed = ~helps.any(axis=0)  # rows that no unit can bring back
    if fixed.any():
        lost[(left[:, None, fixed] + rates[None, :, fixed] < -_TOLERANCE).any(axis=2)] = math.inf
    lost[((left < -_TOLERANCE).astype(float) @ helps.T.astype(float)) == 0] = math.inf
    lost[fleets.units[:, offers] + 1 > rows.most[offers][None, :] + _TOLERANCE] = math.inf
    return lost


def _short_prices(rows: MonthRows) -> Numbers:
    """Return what a row that is short by one is taken to lose."""
    priced = rows.prices[rows.supply :]
    some = priced[priced > 0]
    prices: Numbers = _SHORT * numpy.maximum(rows.prices, some.mean() if len(some) else 1.0)
    prices[: rows.supply] = _SUPPLY_SHORT
    return prices
