"""Refuse what a SPEC names and neither it nor the catalogue knows: a cap on a misspelt supplier would cap nobody."""

from collections.abc import Collection, Iterator
from datetime import date

from secondsource.catalog.records import Catalog
from secondsource.core.errors import InputError
from secondsource.core.strict_toml import suggestion
from secondsource.planner.spec import Spec

_OWN_CHIP = " For a chip of your own, add [[offers]] with its vendor and profile_chip."
_OWN_SUPPLIER = " For a supplier of your own, add its [[offers]]."

Named = Iterator[tuple[str, str | None]]  # where in the SPEC, and the name it gives there, if any


def check_known(spec: Spec, catalog: Catalog) -> None:
    """Raise InputError for the first chip, supplier, region or offer that nothing knows."""
    chips = {name for chip in catalog.chips for name in (chip.name, *chip.aliases)}
    chips |= {offer.chip for offer in spec.offers if offer.vendor}
    _check(spec, "chip", _chips(spec), chips, _OWN_CHIP)
    suppliers = {offer.supplier for offer in catalog.offers} | {offer.supplier for offer in spec.offers}
    _check(spec, "supplier", _suppliers(spec), suppliers, _OWN_SUPPLIER)
    rule = spec.catalog
    regions = {offer.region for offer in catalog.offers}
    _check(spec, "region", (("catalog.regions", name) for name in rule.regions), regions)
    offers = {offer.name for offer in catalog.offers} | {offer.name for offer in spec.offers}
    _check(spec, "offer", (("catalog.exclude", name) for name in rule.exclude), offers)


def refuse_later_prices(spec: Spec, today: date) -> None:
    """Raise InputError for an offer of the SPEC's own whose price was read after today."""
    for number, offer in enumerate(spec.offers):
        if offer.as_of > today:
            place = spec.words.get(f"place.offers.{number}", "")
            raise InputError(
                f"{place}: offers[{number}].as_of: {offer.as_of} is after today, {today}; give the day on which the "
                f"price was read"
            )


def _chips(spec: Spec) -> Named:
    yield from (("catalog.chips", chip) for chip in spec.catalog.chips)
    yield from (("catalog.exclude_chips", chip) for chip in spec.catalog.exclude_chips)
    yield from ((f"offers.{number}", offer.chip) for number, offer in enumerate(spec.offers) if not offer.vendor)
    yield from ((f"rates.{number}", rate.chip) for number, rate in enumerate(spec.rates))
    yield from ((f"deliveries.{number}", delivery.chip) for number, delivery in enumerate(spec.deliveries))
    yield from ((f"limits.{number}", limit.chip) for number, limit in enumerate(spec.limits))


def _suppliers(spec: Spec) -> Named:
    yield from (("catalog.suppliers", name) for name in spec.catalog.suppliers)
    yield from (("catalog.exclude_suppliers", name) for name in spec.catalog.exclude_suppliers)
    yield from ((f"suppliers.{supplier.name}", supplier.name) for supplier in spec.suppliers)
    yield from ((f"deliveries.{number}", delivery.supplier) for number, delivery in enumerate(spec.deliveries))
    yield from ((f"limits.{number}", limit.supplier) for number, limit in enumerate(spec.limits))


def _check(spec: Spec, kind: str, named: Named, known: Collection[str], remedy: str = "") -> None:
    for where, name in named:
        if name is not None and name not in known:
            place = spec.words.get(f"place.{where}", "")
            hint = suggestion(name, sorted(known))
            raise InputError(f'{place}: no {kind} "{name}" in the catalogue or [[offers]]; {hint}{remedy}')
