"""Read SkyPilot's public catalogue: the text of one supplier's `vms.csv` into offers.

The format (`catalogs/v*/<supplier>/vms.csv`) has one row per machine and zone with InstanceType,
AcceleratorName, AcceleratorCount, Price, SpotPrice, Region, AvailabilityZone and more; suppliers add columns
or leave some out. Prices are dollars per hour of the whole machine or slice. The file has no date: the caller
says which day's prices it holds.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Mapping
from datetime import date
from decimal import Decimal, InvalidOperation

import msgspec

from secondsource.catalog import values
from secondsource.catalog.records import Confidence, Offer
from secondsource.core.errors import InputError
from secondsource.core.money import nano_usd
from secondsource.core.rules import Refusal

_NEEDED = ("AcceleratorName", "AcceleratorCount", "Price", "Region")
_SENTINEL_USD = Decimal(700)  # what some exports write for "not offered"

_CHIPS = {
    "A100-80GB": "a100-sxm-80",
    "A100-80GB-SXM": "a100-sxm-80",
    "H100": "h100-sxm",
    "H100-SXM": "h100-sxm",
    "H100-NVL": "h100-nvl",
    "H200": "h200-sxm",
    "H200-SXM": "h200-sxm",
    "B200": "b200-sxm",
    "B300": "b300-sxm",
    "GB200": "gb200-nvl72",
    "GB300": "gb300-nvl72",
    "MI300X": "mi300x",
    "MI325X": "mi325x",
    "MI355X": "mi355x",
    "Gaudi2": "gaudi2",
    "Gaudi3": "gaudi3",
    "Trainium": "trainium1",
    "Trainium2": "trainium2",
    "L4": "l4",
    "L40S": "l40s",
    "RTXPRO6000": "rtx-pro-6000",
}
_TPU = re.compile(r"tpu-(v5litepod|v5e|v5p|v6e|v7x|7x)-(\d+)")
_TPU_CHIPS = {"v5litepod": "tpu-v5e", "v5e": "tpu-v5e", "v5p": "tpu-v5p", "v6e": "tpu-v6e", "v7x": "tpu7x"}
_CORES_PER_CHIP = {"tpu-v5p": 2}  # the name counts cores there, and chips elsewhere


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """The offers of one file, and how many rows were left out, by reason."""

    offers: tuple[Offer, ...]
    left_out: tuple[tuple[str, int], ...]


def read_vms(text: str, origin: str, supplier: str, as_of: date, source: str) -> Reading:
    """Return the offers in the text of a `vms.csv`, the cheapest zone of each region.

    Raises `InputError` where the text lacks a column that every version of the format has.
    """
    rows = csv.DictReader(io.StringIO(text))
    missing = [name for name in _NEEDED if name not in (rows.fieldnames or ())]
    if missing:
        raise InputError(f"{origin}:1: no column {', '.join(missing)}; expected the header of a SkyPilot vms.csv")
    offers: dict[str, Offer] = {}
    left_out: Counter[str] = Counter()
    for row in rows:
        for spot in (False, True):
            found = _offer(row, supplier, spot=spot, as_of=as_of, source=source)
            if isinstance(found, str):
                left_out[found] += not spot  # each row is counted once
            elif found is not None:
                held = offers.get(found.name)
                if held is None or found.nano_usd_per_chip_hour < held.nano_usd_per_chip_hour:
                    offers[found.name] = found
    return Reading(offers=tuple(offers[name] for name in sorted(offers)), left_out=tuple(sorted(left_out.items())))


def _offer(row: Mapping[str, str], supplier: str, *, spot: bool, as_of: date, source: str) -> Offer | str | None:
    """Return the row's offer, None where it has no such price, or the reason to leave the row out."""
    named = _chip(row["AcceleratorName"] or "", row["AcceleratorCount"] or "")
    if named is None:
        return "no accelerator of this catalogue"
    chip, chips = named
    if not chip.startswith("tpu") and not row.get("InstanceType", "a machine"):
        return "a price of accelerators without their machine"
    if "pcie" in (row.get("InstanceType") or "").casefold():
        return "a PCIe card under the chip's name"
    region = row["Region"] or ""
    price = _price(row.get("SpotPrice" if spot else "Price") or "")
    if price is None or isinstance(values.NAME.accept(region), Refusal):
        return None if spot else "no price"
    if isinstance(values.USD_PER_CHIP_HOUR.accept(price / chips), Refusal):
        return "a price beyond belief"
    return Offer(
        supplier=supplier,
        region=region,
        chip=chip,
        chips_per_unit=chips,
        spot=spot,
        nano_usd_per_chip_hour=nano_usd(price / chips),
        as_of=as_of,
        source=source,
        confidence=Confidence.MEDIUM if spot else Confidence.HIGH,
    )


def _chip(accelerator: str, count: str) -> tuple[str, int] | None:
    if slice_name := _TPU.fullmatch(accelerator):
        chip = _TPU_CHIPS.get(slice_name[1], "tpu7x")
        return chip, max(1, int(slice_name[2]) // _CORES_PER_CHIP.get(chip, 1))
    try:
        chips = Decimal(count)
    except InvalidOperation:
        return None
    if accelerator not in _CHIPS or chips < 1 or chips != int(chips):
        return None
    return _CHIPS[accelerator], int(chips)


def _price(text: str) -> Decimal | None:
    try:
        price = Decimal(text)
    except InvalidOperation:
        return None
    return price if price.is_finite() and 0 < price != _SENTINEL_USD else None
