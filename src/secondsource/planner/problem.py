"""The planning problem in numbers: what a SPEC comes to once prices, rates and months are filled in.

The model, the checker and the report all read this record and nothing else. Rates are requests/s (or
images/s) at the busiest time of a month, prices integer nano-dollars, months counted from 0.
"""

from enum import StrEnum

import msgspec


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """The base of every planning record: immutable."""


class Rental(Record, frozen=True, kw_only=True):
    """An offer as the planner sees it: something of which whole units can be started in a month."""

    key: str
    pool: str  # units of one pool are alike: one supplier, chip and unit size
    supplier: str
    vendor: str
    chip: str
    chips_per_unit: int
    term_months: int  # 0: rented by the month, and given back at will
    nano_usd_per_unit_hour: int
    first_month: int = 0  # units cannot start before it
    max_units: int | None = None  # in service at once
    min_units: int = 0  # the smallest order, when there is an order
    firm: bool = True  # spot units are not counted on when a supplier is lost
    held: tuple[int, ...] = ()  # units already under contract, by month; empty for none

    def held_in(self, month: int) -> int:
        """Return the units already under contract in a month."""
        return self.held[month] if self.held else 0


class Demand(Record, frozen=True, kw_only=True):
    """One size class of one lane."""

    key: str  # "paid/chat-short"
    lane: str
    size_class: str
    model: str
    peak: tuple[float, ...]  # requests/s at the busiest time, by month
    mean_to_peak: float = 1.0
    survive: float = 1.0  # the share that must still be served when a supplier or vendor is lost
    shortfall_nano_usd: int | None = None  # lost by each request not served; None: it must be served
    input_tokens: float = 0.0
    output_tokens: float = 0.0
    image_steps: int = 0


class Basis(Record, frozen=True, kw_only=True):
    """What a rate stands on: a profile's evidence with its median relative error, and the part taken off for it."""

    evidence: str  # "compiled", "published" or "measured"; "stated" for the SPEC's own
    error: float = 0.0
    taken_off: float = 0.0


class LossKind(StrEnum):
    """What is lost at once."""

    SUPPLIER = "supplier"
    VENDOR = "vendor"


class Loss(Record, frozen=True, kw_only=True):
    """A case to survive: every unit of one supplier, or of one vendor's chips, is gone."""

    kind: LossKind
    name: str

    @property
    def key(self) -> str:
        """The case's name: "supplier azure"."""
        return f"{self.kind} {self.name}"

    def takes(self, rental: Rental) -> bool:
        """Whether the rental's units cannot be counted on in this case."""
        owner = rental.supplier if self.kind is LossKind.SUPPLIER else rental.vendor
        return owner == self.name or not rental.firm


class ShareCap(Record, frozen=True, kw_only=True):
    """A supplier's rent is at most `max_share` (0 to 1) of each month's rent."""

    supplier: str
    max_share: float


class Limit(Record, frozen=True, kw_only=True):
    """At most `max_chips` in service, by month, over the rentals it covers."""

    key: str
    rentals: tuple[str, ...]  # keys
    max_chips: tuple[int, ...]


class Problem(Record, frozen=True, kw_only=True):
    """A whole planning problem. `rates` gives requests/s of one unit by pool, then demand; 0: it cannot."""

    months: tuple[str, ...]
    hours: tuple[int, ...]
    rentals: tuple[Rental, ...]
    demands: tuple[Demand, ...]
    rates: dict[str, tuple[float, ...]]
    losses: tuple[Loss, ...] = ()
    share_caps: tuple[ShareCap, ...] = ()
    limits: tuple[Limit, ...] = ()
    budget_nano_usd: tuple[int, ...] = ()  # by month; empty for none
    owed_after_horizon: float = 1.0  # the part of rent owed after the last month that counts as cost
    hours_after_horizon: int = 730  # of each month after the last
    bases: dict[str, tuple[Basis, ...]] = {}  # by pool, then demand: what `rates` stand on


def rent_nano_usd(problem: Problem, rental: Rental, month: int) -> int:
    """Return what one unit costs in one month: price per hour times the month's hours."""
    return rental.nano_usd_per_unit_hour * problem.hours[month]


def owed_months(problem: Problem, rental: Rental, start: int) -> int:
    """Return for how many months after the last one a unit started in month `start` is still owed."""
    return max(0, start + rental.term_months - len(problem.months))
