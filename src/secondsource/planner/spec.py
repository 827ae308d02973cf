"""The SPEC: what to serve, what may be rented, and what must be survived, as frozen records.

Rates are requests/s (images/s for an image class) at the busiest time of a month; shares are 0 to 1; money is
in nano-dollars; months are written `YYYY-MM`. The text form and its errors live in `planner.spec_file`.
"""

from datetime import date
from pathlib import Path

from secondsource.catalog.records import Chip
from secondsource.core.demand import SizeClass, Slo
from secondsource.planner.problem import Record
from secondsource.workload.forecast import Surge
from secondsource.workload.trace import Format


class ModelSpec(Record, frozen=True, kw_only=True):
    """A model that is served: its profile's name, and on how many chips one replica of it runs."""

    name: str
    profile: str
    chips_per_replica: dict[str, int]  # by chip; elsewhere a replica is one unit


class ClassSpec(Record, frozen=True, kw_only=True):
    """A size class of one model."""

    size: SizeClass
    model: str


class WorkloadSpec(Record, frozen=True, kw_only=True):
    """Size classes and a daily shape to learn from a trace."""

    name: str
    model: str
    trace: Path
    format: Format | None
    classes: int
    max_gap_s: float


class LaneSpec(Record, frozen=True, kw_only=True):
    """A lane: its service level, what of it survives a loss, and what a request not served loses."""

    name: str
    priority: int  # smaller first; for the fleet file
    slo: Slo
    survive: float
    may_fall_short: bool
    shortfall_nano_usd: int | None


class DemandSpec(Record, frozen=True, kw_only=True):
    """One lane's demand for one class, or for a whole learnt workload."""

    lane: str
    size_class: str | None
    workload: str | None
    peak: tuple[float, ...]  # by month, surges included
    surges: tuple[Surge, ...]
    mean_to_peak: float | None


class CatalogFilter(Record, frozen=True, kw_only=True):
    """Which of the catalogue's offers may be rented; empty means all."""

    directory: Path | None = None
    suppliers: tuple[str, ...] = ()
    chips: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    terms_months: tuple[int, ...] = ()
    exclude_suppliers: tuple[str, ...] = ()
    exclude_chips: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()  # names of offers
    spot: bool = False
    use: bool = True


class OfferSpec(Record, frozen=True, kw_only=True):
    """An offer that the SPEC itself makes."""

    name: str
    supplier: str
    vendor: str
    chip: str
    profile_chip: str  # whose profile the chip has
    speed: float  # of that profile's
    chips_per_unit: int
    term_months: int
    nano_usd_per_chip_hour: int
    spot: bool
    first_month: int
    max_units: int | None
    min_units: int
    as_of: date  # when its price was read


class HeldSpec(Record, frozen=True, kw_only=True):
    """Units already under contract until the month before `until`."""

    offer: str
    units: int
    months: int


class RateSpec(Record, frozen=True, kw_only=True):
    """A rate that the user knows better than any profile: requests/s of one unit."""

    chip: str
    chips_per_unit: int
    size_class: str
    lane: str | None
    requests_per_s: float


class LimitSpec(Record, frozen=True, kw_only=True):
    """At most so many chips, by month, of a supplier, a chip or both."""

    supplier: str | None
    chip: str | None
    max_chips: tuple[int, ...]


class DeliverySpec(Record, frozen=True, kw_only=True):
    """A chip that is not to be had before a month, and by how many months that may slip."""

    chip: str
    supplier: str | None
    first_month: int
    slips_months: tuple[int, ...]


class SupplierSpec(Record, frozen=True, kw_only=True):
    """What the SPEC says of a supplier."""

    name: str
    max_share: float | None
    lead_months: int


class FuturesSpec(Record, frozen=True, kw_only=True):
    """How the futures are drawn that a plan is tried on."""

    count: int = 20
    trials: int = 50  # futures the plan was not made for
    seed: int = 1
    demand: float = 0.5  # each model's demand ends up between 1 - this and 1 + this times the plan's
    price: float = 0.5  # as much for the price of rent by the month
    surge_factor: float = 2.0
    surge_chance: float = 0.25  # that a future has a surge
    rates: float = 0.25  # each chip may be up to this much slower than its profile
    shortfall_nano_usd: int | None = None  # lost by a request not served, where the lane does not say


class Spec(Record, frozen=True, kw_only=True):
    """A whole SPEC."""

    name: str
    months: tuple[str, ...]
    owed_after_horizon: float
    gap: float | None
    seconds: float
    caution: float  # how much of a profile's median error is taken off its rate
    models: tuple[ModelSpec, ...]
    classes: tuple[ClassSpec, ...]
    workloads: tuple[WorkloadSpec, ...]
    lanes: tuple[LaneSpec, ...]
    demand: tuple[DemandSpec, ...]
    catalog: CatalogFilter
    chips: tuple[Chip, ...]  # the SPEC's own, by their data sheets
    offers: tuple[OfferSpec, ...]
    held: tuple[HeldSpec, ...]
    rates: tuple[RateSpec, ...]
    limits: tuple[LimitSpec, ...]
    deliveries: tuple[DeliverySpec, ...]
    suppliers: tuple[SupplierSpec, ...]
    lose_suppliers: bool | tuple[str, ...]
    lose_vendors: bool | tuple[str, ...]
    budget_nano_usd: tuple[int, ...]
    futures: FuturesSpec | None  # None: the plan is not tried on any
    replica_url: str
    words: dict[str, str]  # a statement's key -> its own words, with its place in the file
