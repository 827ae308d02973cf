"""The catalogue's records: chips, offers, and how far a price can be trusted.

TFLOPS are dense. Prices are integer nano-dollars per chip-hour. A date says when a fact held or was read.
"""

from datetime import date
from enum import StrEnum

import msgspec

STALE_AFTER_DAYS = 180  # list prices move a few times a year; older than this is worth a warning


class Confidence(StrEnum):
    """How a price is known."""

    HIGH = "high"  # the supplier's own list, or a machine's reading of it
    MEDIUM = "medium"  # a third party's quote, or a price that moves daily
    LOW = "low"  # derived from another price by a stated ratio


class Chip(msgspec.Struct, frozen=True, kw_only=True):
    """An accelerator as its maker describes it; None where no source read here gives the figure."""

    name: str
    aliases: tuple[str, ...] = ()
    vendor: str
    bf16_tflops: float
    fp8_tflops: float | None = None
    int8_tops: float | None = None
    fp4_tflops: float | None = None
    hbm_gb: float
    hbm_tb_s: float
    scaleup_gb_s: float  # out of one chip, one direction
    scaleup_chips: int  # joined at that speed
    tdp_w: float | None = None
    internal: bool = False  # its maker rents it to nobody
    unchecked: bool = False  # a figure was typed from memory
    as_of: date
    source: str


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """What can be bought: a number of chips at a supplier's region, for a term, at a price of a day."""

    supplier: str
    region: str
    chip: str
    chips_per_unit: int  # sold together: a host, a slice
    term_months: int = 0  # 0: by the hour
    spot: bool = False
    nano_usd_per_chip_hour: int
    as_of: date
    source: str
    confidence: Confidence
    note: str = ""

    @property
    def terms(self) -> str:
        """`on-demand`, `spot`, or `12-months`."""
        if self.spot:
            return "spot"
        return f"{self.term_months}-months" if self.term_months else "on-demand"

    @property
    def name(self) -> str:
        """The offer's one name: `azure/eastus/h100-sxm/8/on-demand`."""
        return f"{self.supplier}/{self.region}/{self.chip}/{self.chips_per_unit}/{self.terms}"

    def age_days(self, today: date) -> int:
        """Return how many days old the price is."""
        return (today - self.as_of).days


class Catalog(msgspec.Struct, frozen=True, kw_only=True):
    """Chips and offers, each in the order of their names."""

    chips: tuple[Chip, ...]
    offers: tuple[Offer, ...]

    def stale(self, today: date, after_days: int = STALE_AFTER_DAYS) -> tuple[Offer, ...]:
        """Return the offers whose price is older than `after_days`."""
        return tuple(offer for offer in self.offers if offer.age_days(today) > after_days)

    def with_chips(self, chips: "tuple[Chip, ...]") -> "Catalog":
        """Return this catalogue with these chips; one of a known name stands in its place."""
        merged = {chip.name: chip for chip in (*self.chips, *chips)}
        return Catalog(chips=tuple(merged[name] for name in sorted(merged)), offers=self.offers)

    def with_newer(self, others: "Catalog") -> "Catalog":
        """Return this catalogue with the other's offers; of two with one name, the newer date stays."""
        merged = {offer.name: offer for offer in self.offers}
        for offer in others.offers:
            held = merged.get(offer.name)
            if held is None or offer.as_of >= held.as_of:
                merged[offer.name] = offer
        return Catalog(chips=self.chips, offers=tuple(merged[name] for name in sorted(merged)))
