"""Price lists load strictly: no price without source and date, faults by file, line and key."""

from datetime import date
from pathlib import Path

import pytest

from secondsource.catalog.load import load_catalog, one_chip, parse_chips, parse_offers, shipped_catalog
from secondsource.core.errors import InputError

TODAY = date(2026, 11, 22)
CHIPS = ("h100-sxm", "tpu-v6e")
LIST = """[[price_lists]]
supplier = "azure"
as_of = 2026-05-20
source = "the price list"
confidence = "high"
offers = [
    { chip = "h100-sxm", chips_per_unit = 8, usd_per_chip_hour = 12.29, regions = ["eastus", "westus"] },
]
"""


def fault(text: str) -> str:
    with pytest.raises(InputError) as raised:
        parse_offers(text, "azure.toml", CHIPS, TODAY)
    return str(raised.value)


def test_a_row_is_one_offer_in_each_of_its_regions() -> None:
    east, west = parse_offers(LIST, "azure.toml", CHIPS, TODAY)
    assert (east.name, west.region) == ("azure/eastus/h100-sxm/8/on-demand", "westus")
    assert east.nano_usd_per_chip_hour == 12_290_000_000
    assert east.age_days(TODAY) == 186


@pytest.mark.parametrize("key", ["source", "as_of", "supplier", "confidence"])
def test_a_price_list_without_one_of_its_facts_does_not_load(key: str) -> None:
    without = "\n".join(line for line in LIST.splitlines() if not line.startswith(f"{key} ="))
    assert fault(without).startswith(f"azure.toml:1: price_lists[0].{key}: missing; add {key} = ")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("2026-05-20", '"2026-05-20"', "azure.toml:3: price_lists[0].as_of: expected a date written"),
        ("2026-05-20", "2026-11-23", "azure.toml:3: price_lists[0].as_of: 2026-11-23 is after today"),
        (
            '"the price list"',
            '" "',
            "azure.toml:4: price_lists[0].source: expected where the figure was read",
        ),
        (
            "12.29",
            "98.32",
            "azure.toml:7: price_lists[0].offers[0].usd_per_chip_hour: expected dollars per chip",
        ),
        ("12.29", '"12.29"', "got the text"),
        ("12.29", "nan", "expected dollars per chip and hour"),
        ('"h100-sxm"', '"h100"', 'no chip "h100" in the catalogue; did you mean "h100-sxm"?'),
        ("chips_per_unit = 8", "chips = 8", 'chips: unknown key; did you mean "chip"?'),
        ("chips_per_unit = 8", "chips_per_unit = 0", "a whole number of chips from 1"),
        ('["eastus", "westus"]', "[]", "regions: expected an array of at least one"),
        (
            '["eastus", "westus"]',
            '["eastus", "eastus"]',
            '"azure/eastus/h100-sxm/8/on-demand" is given twice',
        ),
        (
            "chips_per_unit = 8",
            "chips_per_unit = 8, spot = true, term_months = 12",
            "a spot offer has no term",
        ),
    ],
)
def test_a_fault_is_named_by_line_key_and_remedy(old: str, new: str, expected: str) -> None:
    assert expected in fault(LIST.replace(old, new))


def test_what_is_shipped_covers_the_market_and_is_dated_and_sourced() -> None:
    catalog = shipped_catalog(TODAY)
    rented = {(offer.supplier, offer.chip) for offer in catalog.offers}
    assert {"azure", "oci", "gcp", "aws", "coreweave", "lambda", "nebius"} <= {supplier for supplier, _ in rented}
    assert {("azure", "gb200-nvl72"), ("gcp", "tpu-v6e"), ("oci", "mi300x"), ("aws", "b300-sxm")} <= rented
    assert {"on-demand", "spot", "12-months", "36-months"} == {offer.terms for offer in catalog.offers}
    assert all(offer.source and offer.as_of <= TODAY for offer in catalog.offers)
    assert not {offer.chip for offer in catalog.offers} & {chip.name for chip in catalog.chips if chip.internal}


def test_the_shipped_chips_cover_every_vendor() -> None:
    names = {chip.name for chip in shipped_catalog(TODAY).chips}
    assert {
        "a100-sxm-80",
        "b300-sxm",
        "gb300-nvl72",
        "tpu-v5e",
        "tpu7x",
        "trainium3",
        "mi355x",
        "gaudi3",
    } <= names
    assert one_chip(shipped_catalog(TODAY), "tpu-ironwood").name == "tpu7x"


def test_an_unknown_chip_suggests_the_nearest() -> None:
    with pytest.raises(InputError, match='did you mean "h100-sxm"'):
        one_chip(shipped_catalog(TODAY), "h100-smx")


def test_a_chip_given_twice_is_a_fault() -> None:
    chip = (
        '[[chips]]\nname = "x"\nvendor = "v"\nbf16_tflops = 1\nhbm_gb = 1\nhbm_tb_s = 1\nscaleup_gb_s = 1\n'
        'scaleup_chips = 1\nas_of = 2026-01-01\nsource = "s"\n'
    )
    with pytest.raises(InputError, match=r'chips.toml:12: chips\[1\].name: "x" is given twice'):
        parse_chips(chip + chip.replace("\n[", "\n\n["), "chips.toml")


def test_a_directory_adds_offers_and_the_newer_date_stays(tmp_path: Path) -> None:
    row = '{ chip = "h100-sxm", chips_per_unit = 8, usd_per_chip_hour = 1.5, regions = ["eastus"] }'
    text = LIST.split("offers", maxsplit=1)[0] + f"offers = [{row}]\n"
    name = "azure/eastus/h100-sxm/8/on-demand"
    for day, cheap in (("2026-11-01", True), ("2020-01-01", False)):
        (tmp_path / "mine.toml").write_text(text.replace("2026-05-20", day), encoding="utf-8")
        found = {offer.name: offer for offer in load_catalog(tmp_path, TODAY).offers}[name]
        assert (found.nano_usd_per_chip_hour == 1_500_000_000) == cheap


def test_a_stale_price_is_told_by_its_age() -> None:
    catalog = shipped_catalog(TODAY)
    assert not catalog.stale(TODAY, 10_000)
    assert all(offer.age_days(TODAY) > 100 for offer in catalog.stale(TODAY, 100))
    assert catalog.stale(TODAY, 100)
