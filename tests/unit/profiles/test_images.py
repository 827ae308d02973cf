"""Image rates are MLPerf's, said to be so, and scaled where there is no result."""

from datetime import date

import pytest

from secondsource.catalog.load import one_chip, shipped_catalog
from secondsource.catalog.records import Chip
from secondsource.core.demand import SizeClass, Slo
from secondsource.profiles.capacity import capacity
from secondsource.profiles.efficiency import Evidence
from secondsource.profiles.images import image_speed, shipped_image_profiles


def chip(name: str) -> Chip:
    return one_chip(shipped_catalog(date(2027, 1, 1)), name)


def test_a_result_is_told_with_its_version_system_and_that_it_is_not_verified() -> None:
    found = image_speed(chip("h100-sxm"))
    assert found.evidence is Evidence.PUBLISHED
    assert found.steps_per_s == pytest.approx(17.8585 / 8 * 20)
    for word in ("MLPerf Inference v5.1 closed", "The_Stage", "h100_x8", "Server", "not verified by MLCommons"):
        assert word in found.source


def test_the_chips_of_the_story_have_results() -> None:
    measured = {result.chip for result in shipped_image_profiles().results}
    assert {"h100-sxm", "h200-sxm", "b200-sxm", "tpu-v5e", "tpu-v6e", "mi325x"} <= measured


def test_a_chip_without_a_result_is_scaled_and_its_error_is_wider() -> None:
    found = image_speed(chip("tpu7x"))
    assert found.evidence is Evidence.COMPILED
    assert found.accuracy.p90 > image_speed(chip("tpu-v6e")).accuracy.p90
    assert found.steps_per_s == pytest.approx(0.000986 * 4614 * 20)


def test_images_are_capacity_in_images_and_in_steps() -> None:
    found = capacity("sdxl", "h100-sxm", 8, SizeClass(name="image", image_steps=40), Slo(ttft_s=20.0), 100)
    assert found.image_steps_per_s == pytest.approx(found.requests_per_s * 40)
    assert found.requests_per_s == pytest.approx(17.8585 / 2 * found.utilisation)
