"""Capacity: plausible against published results, and a reason wherever it is nought."""

import pytest

from secondsource.core.demand import SizeClass, Slo
from secondsource.core.errors import InputError
from secondsource.profiles.capacity import capacity
from secondsource.profiles.efficiency import Evidence
from secondsource.profiles.roofline import Precision

CHAT = SizeClass(name="chat", input_tokens=1024, output_tokens=512)
EASY = Slo(ttft_s=2.0, tpot_s=0.05)


def test_a_measured_pair_is_published_and_its_error_is_smaller_than_a_guess() -> None:
    known = capacity("llama-3.1-70b", "h100-sxm", 8, CHAT, EASY, 10)
    guessed = capacity("llama-3.1-70b", "gaudi3", 8, CHAT, EASY, 10)
    assert (known.evidence, guessed.evidence) == (Evidence.PUBLISHED, Evidence.COMPILED)
    assert known.accuracy.p90 < guessed.accuracy.p90
    assert known.tpot_s <= 0.05


def test_a_rate_is_near_mlperfs_for_a_model_that_the_fit_never_saw() -> None:
    """MLPerf v5.1 llama2-70b Server on H100, 3,820 tokens/s a chip: within the error bar's nine in ten."""
    class_ = SizeClass(name="openorca", input_tokens=155, output_tokens=294)
    found = capacity("llama-2-70b", "h100-sxm", 8, class_, Slo(ttft_s=2.0, tpot_s=0.2), 1)
    assert found.output_tokens_per_s / 8 == pytest.approx(3820, rel=max(0.4, found.accuracy.p90))


@pytest.mark.parametrize(
    ("model", "chip", "chips", "size", "slo", "reason"),
    [
        ("deepseek-v3", "h100-sxm", 8, CHAT, EASY, "deepseek-v3 in fp8 does not fit 8 x h100-sxm"),
        ("llama-3.1-70b", "h100-sxm", 8, CHAT, Slo(tpot_s=0.001), "one sequence alone takes"),
        ("llama-3.1-70b", "h100-sxm", 8, CHAT, Slo(ttft_s=0.001), "one prompt alone takes"),
        ("gemma-2-27b", "h100-sxm", 8, SizeClass(name="x", input_tokens=9000, output_tokens=1), EASY, "a context of"),
        ("sdxl", "tpu-v5e", 8, SizeClass(name="x", image_steps=50), Slo(ttft_s=1.0), "an image of 50 steps takes"),
    ],
)
def test_nought_says_why(model: str, chip: str, chips: int, size: SizeClass, slo: Slo, reason: str) -> None:
    found = capacity(model, chip, chips, size, slo, 1)
    assert found.requests_per_s == 0.0
    assert reason in found.reason


def test_the_narrowest_usual_format_is_the_chips() -> None:
    assert capacity("llama-3.1-70b", "h100-sxm", 8, CHAT, EASY, 1).precision is Precision.FP8
    assert capacity("llama-3.1-70b", "tpu-v6e", 8, CHAT, EASY, 1).precision is Precision.INT8
    assert capacity("gpt-oss-120b", "h100-sxm", 8, CHAT, EASY, 1).precision is Precision.INT4
    assert capacity("llama-3.1-70b", "h100-sxm", 8, CHAT, EASY, 1, precision=Precision.BF16).precision == "bf16"


@pytest.mark.parametrize(("chips", "pool"), [(0, 1), (8, 0)])
def test_no_chips_or_no_units_is_wrong_input(chips: int, pool: int) -> None:
    with pytest.raises(InputError, match="expected at least 1"):
        capacity("llama-3.1-70b", "h100-sxm", chips, CHAT, EASY, pool)


def test_an_unknown_chip_or_model_is_wrong_input() -> None:
    with pytest.raises(InputError, match='no chip "h100"'):
        capacity("llama-3.1-70b", "h100", 8, CHAT, EASY, 1)
    with pytest.raises(InputError, match='no numbers for the model "llama-9"'):
        capacity("llama-9", "h100-sxm", 8, CHAT, EASY, 1)
