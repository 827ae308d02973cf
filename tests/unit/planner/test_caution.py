"""How far a profile is trusted, and what a SPEC may say of a chip that nobody else knows."""

from datetime import date
from pathlib import Path

import pytest

from secondsource.catalog.load import shipped_catalog
from secondsource.core.demand import SizeClass, Slo
from secondsource.core.errors import InputError
from secondsource.planner.rates import Rated, profile_rates
from secondsource.planner.resolve import resolve
from secondsource.planner.spec import Spec
from secondsource.planner.spec_file import parse_spec

_PLAN = """
[plan]
start = "2027-01"
months = 1
{caution}

[catalog]
use = false

[models.chat]
profile = "llama-3.1-70b"

[[classes]]
name = "short"
model = "chat"
input_tokens = 500
output_tokens = 100

[[lanes]]
name = "paid"

[[demand]]
lane = "paid"
class = "short"
requests_per_s = 10

[[offers]]
supplier = "azure"
chip = "h100-sxm"
chips_per_unit = 8
usd_per_chip_hour = 4.0
source = "our contract"
as_of = 2026-11-01
"""
_OWN = """
[[offers]]
supplier = "own"
chip = "own-1"
vendor = "own"
chips_per_unit = 8
usd_per_chip_hour = 2.0
source = "our own books"
as_of = 2026-11-01
"""
_SHEET = """
[[chips]]
name = "own-1"
vendor = "own"
bf16_tflops = 500
hbm_gb = 96
hbm_tb_s = 2.5
scaleup_gb_s = 300
scaleup_chips = 8
as_of = 2026-11-01
source = "our own data sheet"
"""
_RATE = """
[[rates]]
chip = "own-1"
chips_per_unit = 4
class = "short"
requests_per_s = 5
"""


def _spec(extra: str = "", caution: str = "") -> Spec:
    return parse_spec(_PLAN.format(caution=caution) + extra, "SPEC.toml", Path())


def _doubtful(model: str, chip: str, chips: int, size: SizeClass, slo: Slo, replicas: int) -> Rated:
    return Rated(requests_per_s=9.0, evidence="compiled", error=0.5)


@pytest.mark.parametrize(("caution", "rate"), [("", 6.0), ("caution = 0", 9.0), ("caution = 2", 4.5)])
def test_a_profile_counts_for_less_the_further_it_may_be_off(caution: str, rate: float) -> None:
    problem = resolve(_spec(caution=caution), shipped_catalog(date.max), _doubtful, {}, {})
    assert problem.rates["azure/h100-sxm x8"] == (pytest.approx(rate),)
    (basis,) = problem.bases["azure/h100-sxm x8"]
    assert (basis.evidence, basis.error) == ("compiled", 0.5)
    assert basis.taken_off == pytest.approx(1 - rate / 9.0)


def test_a_rate_of_the_specs_own_is_taken_whole() -> None:
    problem = resolve(_spec(_OWN + _RATE), shipped_catalog(date.max), _doubtful, {}, {})
    assert problem.rates["own/own-1 x8"] == (10.0,)
    assert problem.bases["own/own-1 x8"][0].evidence == "stated"


def test_a_chip_that_was_never_measured_loses_more_than_one_that_was() -> None:
    spec = _spec(_OWN + _SHEET)
    catalog = shipped_catalog(date.max).with_chips(spec.chips)
    problem = resolve(spec, catalog, profile_rates(catalog), {}, {})
    own, known = problem.bases["own/own-1 x8"][0], problem.bases["azure/h100-sxm x8"][0]
    assert problem.rates["own/own-1 x8"][0] > 0
    assert own.evidence == "compiled"
    assert own.taken_off > known.taken_off


def test_a_chip_of_which_nothing_is_known_is_refused_with_the_remedies() -> None:
    catalog = shipped_catalog(date.max)
    with pytest.raises(InputError) as error:
        resolve(_spec(_OWN), catalog, profile_rates(catalog), {}, {})
    text = str(error.value)
    assert "SPEC.toml:" in text
    for remedy in ("profile_chip", "[[chips]]", "[[rates]]", "short"):
        assert remedy in text


def test_a_chip_of_the_spec_may_stand_in_for_a_shipped_one() -> None:
    sheet = _SHEET.replace("own-1", "h100-sxm").replace("bf16_tflops = 500", "bf16_tflops = 5")
    spec = _spec(sheet)
    slow, fast = shipped_catalog(date.max).with_chips(spec.chips), shipped_catalog(date.max)
    size, slo = SizeClass(name="short", input_tokens=500, output_tokens=100), Slo()
    rates = [profile_rates(each)("llama-3.1-70b", "h100-sxm", 8, size, slo, 1).requests_per_s for each in (slow, fast)]
    assert rates[0] < rates[1]
