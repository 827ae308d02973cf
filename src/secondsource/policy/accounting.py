"""What an attempt costs: its share of the replica's busy time at the chip's rent, or a hosted API's price.

The time a replica is busy is divided among the attempts in flight, second by second, so that the shares of all
attempts add up to the busy time, never more: with four in flight, each bears a quarter.
"""

from typing import NamedTuple, Protocol

from secondsource.core.fleet import Price
from secondsource.core.records import Outcome

NANOSECONDS_PER_HOUR = 3_600_000_000_000
TOKENS_PER_PRICE = 1_000_000
FRACTION_BITS = 20  # of a nanosecond, so that division among many loses nothing that shows

OPERATORS_OWN = frozenset(Outcome) - {Outcome.OK, Outcome.CLIENT_GONE}


class ShareClock:
    """The busy time of one replica, shared equally among the attempts in flight (processor sharing)."""

    __slots__ = ("_active", "_last_ns", "_virtual")

    def __init__(self) -> None:
        self._active = 0
        self._last_ns = 0
        self._virtual = 0

    def enter(self, now_ns: int) -> int:
        """Start an attempt; returns the mark that `leave` wants."""
        self._advance(now_ns)
        self._active += 1
        return self._virtual

    def so_far(self, now_ns: int, mark: int) -> int:
        """Return an attempt's share of the busy time until now, in nanoseconds."""
        self._advance(now_ns)
        return (self._virtual - mark) >> FRACTION_BITS

    def leave(self, now_ns: int, mark: int) -> int:
        """End an attempt; returns its share of the busy time in nanoseconds."""
        self._advance(now_ns)
        self._active -= 1
        assert self._active >= 0, "an attempt left a replica it had not entered"
        return (self._virtual - mark) >> FRACTION_BITS

    def _advance(self, now_ns: int) -> None:
        if now_ns <= self._last_ns:
            return  # taken before what was counted last: that time is shared out already
        if self._active:
            self._virtual += ((now_ns - self._last_ns) << FRACTION_BITS) // self._active
        self._last_ns = now_ns


class Tally(Protocol):
    """How many attempts are in flight at a replica, of this process and of others that ask it too."""

    def write(self, count: int) -> None:
        """Say how many this process has."""

    def others(self) -> int:
        """Return how many the others have."""


class SharedClock(ShareClock):
    """The busy time of a replica that several processes ask, as one of them counts it.

    The others' attempts are looked at when one of ours begins or ends, and at each `tick`; between two looks there are
    taken to be as many as half-way between what was seen.
    """

    __slots__ = ("_others", "_tally")

    def __init__(self, tally: Tally) -> None:
        super().__init__()
        self._tally = tally
        self._others = 0

    def enter(self, now_ns: int) -> int:
        """Start an attempt; returns the mark that `leave` wants."""
        mark = super().enter(now_ns)
        self._tally.write(self._active)
        return mark

    def leave(self, now_ns: int, mark: int) -> int:
        """End an attempt; returns its share of the busy time in nanoseconds."""
        share = super().leave(now_ns, mark)
        self._tally.write(self._active)
        return share

    def tick(self, now_ns: int) -> None:
        """Look at the others; to be called often."""
        self._advance(now_ns)

    def _advance(self, now_ns: int) -> None:
        others = self._tally.others()
        if self._active and now_ns > self._last_ns:
            twice = 2 * self._active + self._others + others
            self._virtual += ((now_ns - self._last_ns) << (FRACTION_BITS + 1)) // twice
        self._last_ns = max(now_ns, self._last_ns)
        self._others = others


class Usage(NamedTuple):
    """What one attempt used: tokens, and for images pixels."""

    tokens_in: int
    tokens_cached: int
    tokens_out: int
    tokens_hidden: int = 0  # of tokens_out: reasoning that is not shown
    pixel_steps: int = 0  # of images: pixels times denoising steps, over all of them


def cost_nano_usd(price: Price, replica_ns: int, usage: Usage) -> int:
    """Return what an attempt cost, in nano-dollars, rounded half up once at the end."""
    uncached = max(usage.tokens_in - usage.tokens_cached, 0)
    by_token = (
        uncached * price.nano_usd_per_million_input_tokens
        + usage.tokens_cached * price.nano_usd_per_million_cached_tokens
        + usage.tokens_out * price.nano_usd_per_million_output_tokens
        + usage.pixel_steps * price.nano_usd_per_image_step_megapixel  # a million, too
    )
    by_time = replica_ns * price.nano_usd_per_replica_hour
    return _divide(
        by_token * NANOSECONDS_PER_HOUR + by_time * TOKENS_PER_PRICE, TOKENS_PER_PRICE * NANOSECONDS_PER_HOUR
    )


def tenants_part(outcome: Outcome, cost: int) -> int:
    """Return what of the cost the tenant bears: a failed attempt is the operator's."""
    return 0 if outcome in OPERATORS_OWN else cost


def _divide(numerator: int, denominator: int) -> int:
    return (numerator + denominator // 2) // denominator
