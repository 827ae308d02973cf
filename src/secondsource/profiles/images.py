"""Image generation in image-steps per second, from MLPerf's SDXL results.

One image-step is one denoising step of one 1024 x 1024 image; MLPerf's SDXL task does 20 of them per image. The
rates are MLPerf's server results; what is derived from them here is not verified by MLCommons. A chip without a
result gets the median rate per 8-bit TFLOPS of those with one, and an error bar to match.
"""

import tomllib
from functools import cache
from importlib.resources import files

import msgspec

from secondsource.catalog.records import Chip
from secondsource.profiles.efficiency import Accuracy, Evidence
from secondsource.profiles.results import Capacity, nothing
from secondsource.profiles.staffing import BUSIEST, safe_utilisation

LATE_SHARE = 0.05


class ImageResult(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One MLPerf result: a system's SDXL rate, and where to look it up."""

    chip: str
    version: str
    division: str
    availability: str
    submitter: str
    system: str
    scenario: str
    chips: int
    images_per_s: float  # of the whole system

    @property
    def source(self) -> str:
        """The result's name in MLPerf's tables, and what was made of it."""
        return (
            f"MLPerf Inference {self.version} {self.division}, {self.availability}, {self.submitter}, {self.system}, "
            f"stable-diffusion-xl {self.scenario}; rate per chip derived, not verified by MLCommons"
        )


class ImageProfiles(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The results, and the rule for chips without one."""

    steps_per_image: int
    accuracy: Accuracy  # of a result, used for another model of the same steps
    images_per_s_per_tflops: float
    derived_accuracy: Accuracy
    results: tuple[ImageResult, ...]


@cache
def shipped_image_profiles() -> ImageProfiles:
    """Return the image profiles inside the package."""
    text = (files("secondsource.profiles") / "data" / "images.toml").read_text("utf-8")
    return msgspec.convert(tomllib.loads(text), ImageProfiles)


class ImageSpeed(msgspec.Struct, frozen=True, kw_only=True):
    """What one chip does."""

    steps_per_s: float
    evidence: Evidence
    accuracy: Accuracy
    source: str


def image_speed(chip: Chip, profiles: ImageProfiles | None = None) -> ImageSpeed:
    """Return a chip's image-steps per second: its result, or the median of others scaled by 8-bit TFLOPS."""
    known = profiles or shipped_image_profiles()
    for result in known.results:
        if result.chip == chip.name:
            steps = result.images_per_s / result.chips * known.steps_per_image
            return ImageSpeed(
                steps_per_s=steps, evidence=Evidence.PUBLISHED, accuracy=known.accuracy, source=result.source
            )
    eight_bits = max(chip.fp8_tflops or 0.0, chip.int8_tops or 0.0, chip.bf16_tflops)
    return ImageSpeed(
        steps_per_s=known.images_per_s_per_tflops * eight_bits * known.steps_per_image,
        evidence=Evidence.COMPILED,
        accuracy=known.derived_accuracy,
        source="median SDXL rate per 8-bit TFLOPS over MLPerf results; not verified by MLCommons",
    )


def image_capacity(chip: Chip, chips: int, steps: int, limit_s: float | None, pool_units: int) -> Capacity:
    """Return what a unit of chips makes, `limit_s` being on the 95th percentile of the time to a whole image."""
    speed = image_speed(chip)
    alone = steps / speed.steps_per_s
    if limit_s is not None and alone > limit_s:
        reason = f"an image of {steps} steps takes {alone:.2f} s here, the limit is {limit_s:g} s"
        return nothing(reason, speed.evidence, speed.accuracy)
    busy = BUSIEST if limit_s is None else safe_utilisation(limit_s - alone, chips * pool_units, alone, LATE_SHARE)
    rate = chips / alone * busy
    return Capacity(
        requests_per_s=rate,
        image_steps_per_s=rate * steps,
        utilisation=busy,
        batch=1,
        replicas=chips,
        chips_per_replica=1,
        first_s=alone,
        evidence=speed.evidence,
        accuracy=speed.accuracy,
        source=speed.source,
    )
