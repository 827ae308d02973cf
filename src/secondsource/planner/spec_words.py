"""What each statement of a SPEC says, in its own words and with its line."""

from collections.abc import Mapping

import msgspec

from secondsource.core.toml_lines import index_lines
from secondsource.planner.constraints import demand_key
from secondsource.planner.spec import DemandSpec, Spec

_NAMING = (
    *(("catalog", key) for key in ("chips", "exclude_chips", "suppliers", "exclude_suppliers", "regions", "exclude")),
    *(("survive", key) for key in ("suppliers", "vendors")),
)


def spell_out(spec: Spec, text: str, origin: str) -> Spec:
    """Return the SPEC with the words of its statements, each ending in its place in the file."""
    lines = index_lines(text.replace("\r\n", "\n"))

    def place(*path: str | int) -> str:
        return f"{origin}:{lines.line_of(path)}"

    words = {
        demand_key(demand.lane, _name(demand)): (
            f"serve lane {demand.lane}'s demand for {_name(demand)} ({place('demand', number)})"
        )
        for number, demand in enumerate(spec.demand)
    }
    for supplier in spec.suppliers:
        if supplier.max_share is not None:
            words[f"suppliers.{supplier.name}.max_share"] = (
                f"{supplier.name} gets at most {supplier.max_share:.0%} of each month's rent "
                f"({place('suppliers', supplier.name, 'max_share')})"
            )
    for number, limit in enumerate(spec.limits):
        what = " ".join(part for part in (limit.chip, "chips", limit.supplier and f"at {limit.supplier}") if part)
        least, most = min(limit.max_chips), max(limit.max_chips)
        many = f"{most:,}" if least == most else f"{least:,} to {most:,}"
        words[f"limits.{number}"] = f"at most {many} {what} ({place('limits', number)})"
    words["survive.suppliers"] = f"survive the loss of supplier NAME ({place('survive', 'suppliers')})"
    words["survive.vendors"] = f"survive the loss of vendor NAME's chips ({place('survive', 'vendors')})"
    words["budget.usd_per_month"] = f"keep to the monthly budget ({place('budget', 'usd_per_month')})"
    for number, offer in enumerate(spec.offers):
        words[f"offers.{offer.name}.max_units"] = (
            f"at most {offer.max_units} units of {offer.name} ({place('offers', number)})"
        )
        words[f"offers.{offer.name}.min_units"] = (
            f"orders of {offer.name} are of {offer.min_units} units or more ({place('offers', number)})"
        )
    tables = {"offers": spec.offers, "rates": spec.rates, "deliveries": spec.deliveries, "held": spec.held}
    for key, items in {**tables, "limits": spec.limits}.items():
        for number in range(len(items)):
            words[f"place.{key}.{number}"] = place(key, number)
    for table, key in _NAMING:
        words[f"place.{table}.{key}"] = place(table, key)
    for supplier in spec.suppliers:
        words[f"place.suppliers.{supplier.name}"] = place("suppliers", supplier.name)
    return msgspec.structs.replace(spec, words=words)


def _name(demand: DemandSpec) -> str:
    return demand.size_class or demand.workload or ""


def in_words(words: Mapping[str, str], statement: str) -> str:
    """Return a statement's words; the statement itself where the SPEC has none for it."""
    if statement in words:
        return words[statement]
    kind, _, rest = statement.partition(".")
    which, _, name = rest.partition(".")
    if kind == "survive" and f"survive.{which}" in words:
        return words[f"survive.{which}"].replace("NAME", name)
    if kind == "demand":  # a class learnt from a workload stands under the workload's name
        stem = statement.rpartition("-")[0]
        if stem in words:
            return f"{words[stem]}, size class {name}"
    return statement
