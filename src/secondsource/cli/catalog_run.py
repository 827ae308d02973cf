"""What `secondsource catalog list|show|refresh` do once their arguments are read."""

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Literal

from rich import box
from rich.console import Console
from rich.table import Table

from secondsource.catalog import refresh
from secondsource.catalog.load import load_catalog, one_chip
from secondsource.catalog.records import STALE_AFTER_DAYS, Catalog, Chip, Offer
from secondsource.catalog.skypilot import Reading, read_vms
from secondsource.core.errors import InputError, NoAnswerError
from secondsource.core.money import dollars
from secondsource.core.strict_toml import suggestion

PIPED_WIDTH = 160  # a pipe has no width of its own
REFRESHED_FILE = "skypilot.toml"
SOURCE = "SkyPilot's catalogue, "


def run_list(arguments: argparse.Namespace) -> int:
    """Print the offers that have all that was asked for, or the chips."""
    today = date.today()
    catalog = load_catalog(arguments.catalog, today)
    if arguments.chips:
        _print_chips(catalog.chips, as_json=arguments.json)
        return 0
    offers = _chosen(catalog, arguments)
    if not offers:
        raise NoAnswerError("no offer has all of these; leave a filter out, or run: secondsource catalog refresh")
    if arguments.json:
        print(json.dumps({"offers": [_offer_json(offer, today) for offer in offers]}, indent=1))
    else:
        table = _table("supplier", "region", "chip", ">chips", "terms", ">$/chip-h", "as of", ">age d", "confidence")
        for offer in offers:
            price = f"{dollars(offer.nano_usd_per_chip_hour):.4f}"
            about = (str(offer.as_of), str(offer.age_days(today)), offer.confidence.value)
            table.add_row(
                offer.supplier,
                offer.region,
                offer.chip,
                str(offer.chips_per_unit),
                offer.terms,
                price,
                *about,
            )
        _console().print(table)
    _warn(Catalog(chips=(), offers=offers).stale(today, _stale_after(arguments)), today)
    return 0


def _stale_after(arguments: argparse.Namespace) -> int:
    given: int | None = arguments.stale_after
    return STALE_AFTER_DAYS if given is None else given


def _chosen(catalog: Catalog, arguments: argparse.Namespace) -> tuple[Offer, ...]:
    chips = [one_chip(catalog, name).name for name in arguments.chip]
    for flag, given, known in (
        ("--supplier", arguments.supplier, sorted({offer.supplier for offer in catalog.offers})),
        ("--region", arguments.region, sorted({offer.region for offer in catalog.offers})),
        ("--terms", arguments.terms, sorted({offer.terms for offer in catalog.offers})),
    ):
        for name in given:
            if name not in known:
                raise InputError(f'{flag}: the catalogue has no "{name}"; {suggestion(name, known)}')
    return tuple(
        offer
        for offer in catalog.offers
        if (not chips or offer.chip in chips)
        and (not arguments.supplier or offer.supplier in arguments.supplier)
        and (not arguments.region or offer.region in arguments.region)
        and (not arguments.terms or offer.terms in arguments.terms)
    )


def run_show(arguments: argparse.Namespace) -> int:
    """Print one chip, or one offer with its source."""
    today = date.today()
    catalog = load_catalog(arguments.catalog, today)
    offers = [offer for offer in catalog.offers if offer.name == arguments.name]
    if "/" in arguments.name and not offers:
        names = [offer.name for offer in catalog.offers]
        near = suggestion(arguments.name, names) if len(names) < 5000 else ""
        near = near if near.startswith("did") else "run: secondsource catalog list"
        raise InputError(f'no offer "{arguments.name}"; {near}')
    facts = _offer_json(offers[0], today) if offers else _chip_json(one_chip(catalog, arguments.name))
    if arguments.json:
        print(json.dumps(facts, indent=1))
    else:
        table = _table("", "")
        for key, value in facts.items():
            table.add_row(key, "not known" if value is None else str(value))
        _console().print(table)
    _warn(Catalog(chips=(), offers=tuple(offers)).stale(today, _stale_after(arguments)), today)
    return 0


def run_refresh(arguments: argparse.Namespace) -> int:
    """Read SkyPilot's catalogue and keep what is newer."""
    today = date.today()
    if arguments.as_of is not None and arguments.source is None:
        raise InputError("--as-of: only for a copy given with --from; over the network the date is the server's")
    if arguments.as_of is not None and arguments.as_of > today:
        raise InputError(f"--as-of: {arguments.as_of} is after today, {today}; give the day of the prices")
    suppliers = tuple(arguments.supplier or refresh.SUPPLIERS)
    if arguments.source is not None:
        snapshots = refresh.from_directory(arguments.source, suppliers, arguments.as_of)
    else:
        url = arguments.url or refresh.BASE_URL
        with _console(stderr=True).status(f"reading {url}"):
            snapshots = refresh.from_network(url, arguments.history_url or refresh.HISTORY_URL, suppliers)
    readings = [(snapshot, _read(snapshot)) for snapshot in snapshots]
    before = load_catalog(arguments.catalog, today)
    found = tuple(offer for _, reading in readings for offer in reading.offers)
    kept = before.with_newer(Catalog(chips=(), offers=found))
    ours = tuple(offer for offer in kept.offers if offer.source.startswith(SOURCE))
    _write(arguments.catalog / REFRESHED_FILE, ours)
    _report(readings, before, kept, today, as_json=arguments.json)
    return 0


def _read(snapshot: refresh.Snapshot) -> Reading:
    source = f"{SOURCE}{snapshot.supplier}/vms.csv, from {snapshot.origin}"
    return read_vms(snapshot.text, snapshot.origin, snapshot.supplier, snapshot.as_of, source)


def _write(path: Path, offers: tuple[Offer, ...]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    half_way = path.with_suffix(".new")
    half_way.write_text(refresh.price_list(offers), encoding="utf-8")
    half_way.replace(path)


def _report(
    readings: Sequence[tuple[refresh.Snapshot, Reading]],
    before: Catalog,
    after: Catalog,
    today: date,
    *,
    as_json: bool,
) -> None:
    newer = {offer.name for offer in after.offers} - {offer.name for offer in before.offers}
    held = {offer.name: offer for offer in before.offers}
    moved = {offer.name for offer in after.offers if offer.name in held and offer != held[offer.name]}
    rows = [
        {
            "supplier": snapshot.supplier,
            "as_of": str(snapshot.as_of),
            "age_days": (today - snapshot.as_of).days,
            "offers": len(reading.offers),
            "new": sum(offer.name in newer for offer in reading.offers),
            "replaced": sum(offer.name in moved for offer in reading.offers),
            "left_out": dict(reading.left_out),
        }
        for snapshot, reading in readings
    ]
    if as_json:
        print(json.dumps({"refreshed": rows}, indent=1))
        return
    table = _table("supplier", "as of", ">age d", ">offers", ">new", ">replaced", "rows left out")
    for row in rows:
        left_out = row.pop("left_out")
        said = ", ".join(f"{count} {reason}" for reason, count in dict(left_out).items())  # type: ignore[call-overload]
        table.add_row(*(str(value) for value in row.values()), said or "none")
    _console().print(table)


def _offer_json(offer: Offer, today: date) -> dict[str, object]:
    return {
        "name": offer.name,
        "supplier": offer.supplier,
        "region": offer.region,
        "chip": offer.chip,
        "chips_per_unit": offer.chips_per_unit,
        "term_months": offer.term_months,
        "spot": offer.spot,
        "usd_per_chip_hour": f"{dollars(offer.nano_usd_per_chip_hour):f}",
        "as_of": str(offer.as_of),
        "age_days": offer.age_days(today),
        "confidence": offer.confidence.value,
        "source": offer.source,
        "note": offer.note,
    }


def _chip_json(chip: Chip) -> dict[str, object]:
    facts = {name: getattr(chip, name) for name in chip.__struct_fields__}
    return {**facts, "aliases": list(chip.aliases), "as_of": str(chip.as_of)}


def _print_chips(chips: tuple[Chip, ...], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"chips": [_chip_json(chip) for chip in chips]}, indent=1))
        return
    table = _table(
        "chip", "vendor", ">bf16", ">fp8", ">int8", ">fp4", ">HBM GB", ">TB/s", ">links GB/s", ">W", "rented"
    )
    for chip in chips:
        numbers = (
            chip.bf16_tflops,
            chip.fp8_tflops,
            chip.int8_tops,
            chip.fp4_tflops,
            chip.hbm_gb,
            chip.hbm_tb_s,
        )
        shown = ("-" if value is None else f"{value:g}" for value in (*numbers, chip.scaleup_gb_s, chip.tdp_w))
        table.add_row(chip.name, chip.vendor, *shown, "to nobody" if chip.internal else "yes")
    _console().print(table)


def _warn(stale: tuple[Offer, ...], today: date) -> None:
    if stale:
        oldest = max(offer.age_days(today) for offer in stale)
        print(
            f"secondsource: {len(stale)} of these prices are old, the oldest {oldest} days; "
            "run: secondsource catalog refresh",
            file=sys.stderr,
        )


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_header=any(columns))
    for column in columns:
        justify: Literal["left", "right"] = "right" if column.startswith(">") else "left"
        table.add_column(column.removeprefix(">"), justify=justify, overflow="fold")
    return table


def _console(*, stderr: bool = False) -> Console:
    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(stderr=stderr, width=None if terminal else PIPED_WIDTH)
