"""Read chips and offers from strict TOML: what is shipped, and what a refresh has written.

Every fault of a file is named at once, by file, line and key. A price without a source or a date is one.
"""

from collections.abc import Iterable
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Protocol

from secondsource.catalog import values
from secondsource.catalog.records import Catalog, Chip, Confidence, Offer
from secondsource.core.errors import InputError
from secondsource.core.money import nano_usd
from secondsource.core.strict_toml import Document, Table, suggestion


class _Text(Protocol):
    """A file on disk or inside the package."""

    @property
    def name(self) -> str: ...
    def read_text(self, encoding: str) -> str: ...


def shipped_catalog(today: date) -> Catalog:
    """Return the catalogue inside the package; `today` is the day after which no price can be dated."""
    data = files("secondsource.catalog") / "data"
    chips = parse_chips((data / "chips.toml").read_text("utf-8"), "catalog/data/chips.toml")
    return _with_offers(chips, (data / "offers").iterdir(), "catalog/data/offers/", today)


def load_catalog(directory: Path | None, today: date) -> Catalog:
    """Return what is shipped, with the price lists (`*.toml`) of `directory` where those are newer.

    Raises `InputError` naming file, line and key; a directory that does not exist holds no price list.
    """
    shipped = shipped_catalog(today)
    if directory is None or not directory.is_dir():
        return shipped
    return shipped.with_newer(_with_offers(shipped.chips, directory.glob("*.toml"), f"{directory}/", today))


def _with_offers(chips: tuple[Chip, ...], paths: Iterable[_Text], origin: str, today: date) -> Catalog:
    known = tuple(chip.name for chip in chips)
    catalog = Catalog(chips=chips, offers=())
    for path in sorted(paths, key=lambda each: each.name):
        offers = parse_offers(path.read_text("utf-8"), origin + path.name, known, today)
        catalog = catalog.with_newer(Catalog(chips=(), offers=offers))
    return catalog


def parse_chips(text: str, origin: str) -> tuple[Chip, ...]:
    """Return the chips that a text describes, in the order of their names."""
    document = Document(text, origin)
    chips: dict[str, Chip] = {}
    for table in document.root.tables("chips"):
        chip = read_chip(table)
        if chip.name in chips:
            table.report("name", f'"{chip.name}" is given twice; keep one')
        chips[chip.name] = chip
    document.root.finish()
    document.finish()
    return tuple(chips[name] for name in sorted(chips))


def read_chip(table: Table) -> Chip:
    """Return the chip that a table describes; faults are reported to its document."""

    def known(key: str) -> float | None:
        value = table.optional(key, values.TFLOPS, None)
        return None if value is None else float(value)

    chip = Chip(
        name=table.required("name", values.NAME),
        aliases=table.optional("aliases", values.NAMES, ()),
        vendor=table.required("vendor", values.NAME),
        bf16_tflops=float(table.required("bf16_tflops", values.TFLOPS)),
        fp8_tflops=known("fp8_tflops"),
        int8_tops=known("int8_tops"),
        fp4_tflops=known("fp4_tflops"),
        hbm_gb=float(table.required("hbm_gb", values.HBM_GB)),
        hbm_tb_s=float(table.required("hbm_tb_s", values.HBM_TB_S)),
        scaleup_gb_s=float(table.required("scaleup_gb_s", values.SCALEUP_GB_S)),
        scaleup_chips=table.required("scaleup_chips", values.CHIPS),
        tdp_w=None if (power := table.optional("tdp_w", values.TDP_W, None)) is None else float(power),
        internal=table.optional("internal", values.FLAG, False),
        unchecked=table.optional("unchecked", values.FLAG, False),
        as_of=table.required("as_of", values.AS_OF),
        source=table.required("source", values.SOURCE),
    )
    table.finish()
    return chip


def parse_offers(text: str, origin: str, chips: tuple[str, ...], today: date) -> tuple[Offer, ...]:
    """Return the offers of a text of `[[price_lists]]`; `chips` are the names that an offer may use."""
    document = Document(text, origin)
    offers: dict[str, Offer] = {}
    for table in document.root.tables("price_lists"):
        for offer in _price_list(table, chips, today):
            if offer.name in offers:
                table.report("offers", f'"{offer.name}" is given twice in this file; keep one')
            offers[offer.name] = offer
    document.root.finish()
    document.finish()
    return tuple(offers.values())


def _price_list(table: Table, chips: tuple[str, ...], today: date) -> list[Offer]:
    supplier = table.required("supplier", values.NAME)
    as_of = table.required("as_of", values.AS_OF)
    if as_of > today:
        table.report("as_of", f"{as_of} is after today, {today}; give the day on which the prices were read")
    source = table.required("source", values.SOURCE)
    confidence = table.required("confidence", values.CONFIDENCE)
    offers: list[Offer] = []
    for row in table.tables("offers"):
        offers += _row(row, chips, supplier, as_of, source, confidence)
    table.finish()
    return offers


def _row(
    row: Table, chips: tuple[str, ...], supplier: str, as_of: date, source: str, confidence: Confidence
) -> list[Offer]:
    chip = row.required("chip", values.NAME)
    if chip not in chips:
        row.report("chip", f'no chip "{chip}" in the catalogue; {suggestion(chip, chips)}')
    spot = row.optional("spot", values.FLAG, False)
    term = row.optional("term_months", values.TERM_MONTHS, 0)
    if spot and term:
        row.report("term_months", "a spot offer has no term; remove one of the two")
    chips_per_unit = row.required("chips_per_unit", values.CHIPS)
    price = row.required("usd_per_chip_hour", values.USD_PER_CHIP_HOUR)
    note = row.optional("note", values.NOTE, "")
    regions = row.several("regions", values.NAME)
    row.finish()
    return [
        Offer(
            supplier=supplier,
            region=region,
            chip=chip,
            chips_per_unit=chips_per_unit,
            term_months=term,
            spot=spot,
            nano_usd_per_chip_hour=nano_usd(price),
            as_of=as_of,
            source=source,
            confidence=confidence,
            note=note,
        )
        for region in regions
    ]


def one_chip(catalog: Catalog, name: str) -> Chip:
    """Return the chip of this name or alias; `InputError` suggests the nearest known one."""
    for chip in catalog.chips:
        if name in (chip.name, *chip.aliases):
            return chip
    raise InputError(f'no chip "{name}" in the catalogue; {suggestion(name, [chip.name for chip in catalog.chips])}')
