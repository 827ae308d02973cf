"""Profiles that `secondsource port` compiled: stored as one small file for each model, chip and format.

A compiled profile is a factor on the predicted time, as a published or a measured one is, and comes after both.
"""

import re
from datetime import date
from pathlib import Path

import msgspec
import platformdirs

from secondsource.core.errors import InputError
from secondsource.profiles.efficiency import Accuracy, Correction
from secondsource.profiles.roofline import Precision

_UNKNOWN_ERROR = 1.0  # nobody measured any compiled step on such a chip: it may be off by as much again


class CompiledProfile(msgspec.Struct, frozen=True, kw_only=True):
    """What the compiler said of a model on a chip, over what the profiles would predict of the same step."""

    model: str
    chip: str
    precision: str
    factor: float
    median: float | None  # relative error to expect
    p90: float | None
    chips: int
    batch: int
    context_tokens: int
    decode_step_s: float
    compiler: str
    as_of: date

    @property
    def correction(self) -> Correction:
        """The profile as the predictions take it."""
        known = self.median is not None and self.p90 is not None
        median, p90 = (self.median or 0.0, self.p90 or 0.0) if known else (_UNKNOWN_ERROR, _UNKNOWN_ERROR)
        return Correction(
            model=self.model,
            chip=self.chip,
            precision=Precision(self.precision),
            factor=self.factor,
            accuracy=Accuracy(median=median, p90=p90),
        )


def profile_directory() -> Path:
    """Return where profiles are kept between runs."""
    return Path(platformdirs.user_data_dir("secondsource")) / "profiles"


def store_compiled(profile: CompiledProfile, directory: Path) -> Path:
    """Write a profile in the place of an older one of the same model, chip and format; return its path."""
    directory.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{profile.model}--{profile.chip}--{profile.precision}")
    path = directory / f"{name}.json"
    unfinished = path.with_suffix(".part")
    unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(profile), indent=1))
    unfinished.replace(path)
    return path


def read_compiled(directory: Path) -> tuple[CompiledProfile, ...]:
    """Return the profiles of a directory in the order of their files' names; none where it does not exist.

    Raises `InputError` for a file that is no profile.
    """
    found = []
    for path in sorted(directory.glob("*.json")):
        try:
            found.append(msgspec.json.decode(path.read_bytes(), type=CompiledProfile))
        except (msgspec.DecodeError, OSError) as error:
            raise InputError(
                f"{path}: no compiled profile: {error}; delete it, or run secondsource port again"
            ) from None
    return tuple(found)


def stored_corrections() -> tuple[Correction, ...]:
    """Return what `secondsource port` has stored on this machine, as the planner takes it."""
    return tuple(profile.correction for profile in read_compiled(profile_directory()))
