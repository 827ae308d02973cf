"""Read what the SPEC says may be rented: its own offers, rates, limits, deliveries, contracts held."""

from decimal import Decimal

from secondsource.core.money import nano_usd
from secondsource.core.strict_toml import Table
from secondsource.planner import spec_rules as rules
from secondsource.planner.spec import DeliverySpec, HeldSpec, LimitSpec, OfferSpec, RateSpec

_PER_CHIP = "prices are per chip and hour; write usd_per_chip_hour, divided by chips_per_unit"


def by_month(table: Table, key: str, values: tuple[Decimal, ...], months: tuple[str, ...]) -> tuple[Decimal, ...]:
    """Return one value for each month; one alone holds for all. A month missing is reported."""
    if len(values) == 1:
        return values * len(months)
    if len(values) < len(months):
        missing = f"{months[len(values)]} to {months[-1]}" if len(months) - len(values) > 1 else months[-1]
        table.report(key, f"{len(values)} values for {len(months)} months: {missing} missing; add the rest")
    elif len(values) > len(months):
        table.report(key, f"{len(values)} values for {len(months)} months; leave out the last ones")
    return (values + (Decimal(0),) * len(months))[: len(months)]


def month_index(table: Table, key: str, months: tuple[str, ...], default: int) -> int:
    """Return the index of the month at `key`; months after the last count as just after it."""
    name = table.optional(key, rules.MONTH, None)
    if name is None:
        return default
    return months.index(name) if name in months else 0 if name < months[0] else len(months)


def read_offers(root: Table, months: tuple[str, ...]) -> tuple[OfferSpec, ...]:
    """Return the SPEC's own offers, each with a source and a date, as the catalogue asks of its own."""
    return tuple(_offer(table, months) for table in root.tables("offers"))


def _offer(table: Table, months: tuple[str, ...]) -> OfferSpec:
    table.refuse(("usd_per_unit_hour", "usd_per_instance_hour", "usd_per_hour"), _PER_CHIP)
    table.refuse(("usd_per_chip_month", "usd_per_month"), f"{_PER_CHIP}; a month has about 730 hours")
    table.refuse(("term_years", "term_hours", "term"), "terms are in months; write term_months")
    chip = table.required("chip", rules.NAME)
    supplier = table.required("supplier", rules.NAME)
    chips = table.optional("chips_per_unit", rules.CHIPS, 1)
    term = table.optional("term_months", rules.TERM_MONTHS, 0)
    spot = table.optional("spot", rules.FLAG, False)
    region = table.optional("region", rules.NAME, "any")
    terms = "spot" if spot else f"{term}-months" if term else "on-demand"
    table.required("source", rules.TEXT)
    as_of = table.required("as_of", rules.AS_OF)
    found = OfferSpec(
        name=f"{supplier}/{region}/{chip}/{chips}/{terms}",
        supplier=supplier,
        vendor=table.optional("vendor", rules.NAME, ""),
        chip=chip,
        profile_chip=table.optional("profile_chip", rules.NAME, chip),
        speed=float(table.optional("speed", rules.FACTOR, Decimal(1))),
        chips_per_unit=chips,
        term_months=term,
        nano_usd_per_chip_hour=nano_usd(table.required("usd_per_chip_hour", rules.USD_PER_CHIP_HOUR)),
        spot=spot,
        first_month=month_index(table, "available_from", months, 0),
        max_units=table.optional("max_units", rules.UNITS, None),
        min_units=table.optional("min_units", rules.UNITS, 0),
        as_of=as_of,
    )
    table.finish()
    return found


def read_held(root: Table, months: tuple[str, ...]) -> tuple[HeldSpec, ...]:
    """Return the contracts already signed."""
    found = []
    for table in root.tables("held"):
        found.append(
            HeldSpec(
                offer=table.required("offer", rules.TEXT),
                units=table.required("units", rules.UNITS),
                months=month_index(table, "until", months, len(months)),
            )
        )
        table.finish()
    return tuple(found)


def read_rates(root: Table) -> tuple[RateSpec, ...]:
    """Return the rates that the SPEC gives itself."""
    found = []
    for table in root.tables("rates"):
        found.append(
            RateSpec(
                chip=table.required("chip", rules.NAME),
                chips_per_unit=table.optional("chips_per_unit", rules.CHIPS, 1),
                size_class=table.required("class", rules.NAME),
                lane=table.optional("lane", rules.NAME, None),
                requests_per_s=float(table.required("requests_per_s", rules.RATE)),
            )
        )
        table.finish()
    return tuple(found)


def read_limits(root: Table, months: tuple[str, ...]) -> tuple[LimitSpec, ...]:
    """Return the limits on chips in service."""
    found = []
    for table in root.tables("limits"):
        supplier = table.optional("supplier", rules.NAME, None)
        chip = table.optional("chip", rules.NAME, None)
        if supplier is None and chip is None:
            table.report("supplier", "expected a supplier, a chip or both: what the limit is on")
        table.refuse(("max_units",), "limits are in chips; write max_chips, times the chips of a unit")
        given = table.required("max_chips", rules.CHIPS_BY_MONTH)
        chips = by_month(table, "max_chips", given, months)
        found.append(LimitSpec(supplier=supplier, chip=chip, max_chips=tuple(int(value) for value in chips)))
        table.finish()
    return tuple(found)


def read_deliveries(root: Table, months: tuple[str, ...]) -> tuple[DeliverySpec, ...]:
    """Return the chips that are still to be delivered."""
    found = []
    for table in root.tables("deliveries"):
        table.required("from", rules.MONTH)
        found.append(
            DeliverySpec(
                chip=table.required("chip", rules.NAME),
                supplier=table.optional("supplier", rules.NAME, None),
                first_month=month_index(table, "from", months, 0),
                slips_months=table.optional("slips_months", rules.MONTH_COUNTS, (0,)),
            )
        )
        table.finish()
    return tuple(found)
