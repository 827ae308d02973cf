from pathlib import Path

import pytest

from secondsource.core.errors import InputError
from secondsource.planner.spec_file import parse_spec

SMALL = (Path(__file__).parent / "small.toml").read_text()


def spoil(old: str, new: str) -> str:
    assert old in SMALL
    return SMALL.replace(old, new)


def test_a_spec_is_read_with_its_defaults() -> None:
    spec = parse_spec(SMALL, "SPEC.toml", Path())
    assert spec.months == ("2027-01", "2027-02", "2027-03")
    assert spec.demand[0].peak == (100.0, 120.0, 150.0)
    assert spec.demand[1].peak[0] == 200.0
    assert spec.demand[1].peak[2] == pytest.approx(200.0 * 2 ** (2 / 12))
    assert spec.offers[1].name == "azure/any/h100-sxm/8/12-months"
    assert spec.lose_suppliers is True
    assert spec.words["suppliers.azure.max_share"].endswith("(SPEC.toml:79)")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("[100, 120, 150]", "[100, 120]", r"SPEC.toml:32: demand\[0\].requests_per_s: .* 2027-03 missing; add"),
        ("[100, 120, 150]", "[100, -120, 150]", r"SPEC.toml:32: .* got -120 in month 2; it cannot be negative"),
        ("[100, 120, 150]", "-5", r"SPEC.toml:32: .* got -5; it cannot be negative"),
        ("term_months = 12", "term_months = 8760", r"SPEC.toml:53: .* is it hours\? 8760 hours are 12 months"),
        ("term_months = 12", "term_years = 1", r"SPEC.toml:53: .* terms are in months; write term_months"),
        ("usd_per_chip_hour = 6.98", "usd_per_unit_hour = 55.84", r"SPEC.toml:45: .* divided by chips_per_unit"),
        ("usd_per_chip_hour = 4.2", "usd_per_chip_hour = 3066", r"SPEC.toml:54: .* per instance, per day or per"),
        ("max_share = 0.7", "max_shar = 0.7", r'SPEC.toml:79: .* did you mean "max_share"\?'),
        (
            "max_share = 0.7",
            "max_share = 70",
            r"SPEC.toml:79: suppliers.azure.max_share: expected a number from 0 to 1",
        ),
        ("ttft_s = 2.0", "ttft_ms = 2000", r"SPEC.toml:20: .* limits are in seconds"),
        ('start = "2027-01"', 'start = "2027-13"', r"SPEC.toml:3: plan.start: expected a month written YYYY-MM"),
        ('lane = "paid"', 'lane = "payed"', r'SPEC.toml:30: demand\[0\].lane: no lane "payed"; did you mean "paid"\?'),
        ("may_fall_short = true\nshortfall", "may_fall_short = true\n# shortfall", "needs shortfall_usd_per_1000"),
        (
            "output_tokens = 100",
            "output_tokens = 100\nimage_steps = 20",
            "an image class has image_steps and no tokens; remove it",
        ),
    ],
)
def test_bad_input_names_the_line_and_the_remedy(old: str, new: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        parse_spec(spoil(old, new), "SPEC.toml", Path())


def test_every_fault_is_told_at_once() -> None:
    text = SMALL.replace('class = "short"', 'class = "shrot"')
    with pytest.raises(InputError) as told:
        parse_spec(text, "SPEC.toml", Path())
    assert str(told.value).count("SPEC.toml:") == 4
