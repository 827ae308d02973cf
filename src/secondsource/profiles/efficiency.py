"""How far chips and engines stay behind the roofline: fitted coefficients, their errors, and corrections.

The numbers ship in `data/efficiency.toml`, which `benchmarks/profiles_fit.py` writes with date and source.
"""

import tomllib
from datetime import date
from enum import StrEnum
from functools import cache
from importlib.resources import files

import msgspec

from secondsource.catalog.records import Chip
from secondsource.core.errors import InputError
from secondsource.profiles.roofline import Precision


class Evidence(StrEnum):
    """What a prediction rests on."""

    COMPILED = "compiled"  # reckoned from the data sheet and the model's shape; nobody measured this pair
    PUBLISHED = "published"  # corrected by published measurements of this model on this chip
    MEASURED = "measured"  # corrected by what our own ledger saw


class Accuracy(msgspec.Struct, frozen=True, kw_only=True):
    """The relative error to expect: of the median prediction, and of nine in ten."""

    median: float
    p90: float
    points: int = 0  # measurements that it was found on


class ChipAccuracy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The errors on one chip of models left out of the fit."""

    chip: str
    tpot: Accuracy
    throughput: Accuracy


class Correction(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Measured over predicted time of one model on one chip, and the error that remains."""

    model: str
    chip: str
    precision: Precision
    factor: float
    accuracy: Accuracy


class ChipFamily(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Chips that share coefficients; `factor` multiplies every predicted time."""

    name: str
    like: str  # the fitted family whose coefficients these chips take
    chips: tuple[str, ...]
    engine: str  # the engine assumed where none is named
    factor: float = 1.0
    source: str
    accuracy: Accuracy  # for chips without a row of their own


class EngineFactor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An engine's factors on the physical terms and on the overheads, relative to vLLM."""

    name: str
    physical: float
    overhead: float


class Efficiencies(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything the fit found."""

    as_of: date
    source: str
    coefficients: dict[str, dict[str, float]]  # by fitted family, by term
    engines: tuple[EngineFactor, ...]
    families: tuple[ChipFamily, ...]
    accuracies: tuple[ChipAccuracy, ...]
    corrections: tuple[Correction, ...]

    def without_corrections(self) -> "Efficiencies":
        """Return the same without what was published of single models: what a correction is measured against."""
        return msgspec.structs.replace(self, corrections=())

    def family(self, chip: Chip) -> ChipFamily:
        """Return the family of a chip; a chip of no known family takes the first whose chips are `*`."""
        for family in self.families:
            if chip.name in family.chips or "*" in family.chips:
                return family
        raise InputError(f'no efficiencies for the chip "{chip.name}"; add it to a family of efficiency.toml')

    def engine(self, name: str) -> EngineFactor:
        """Return an engine's factors; `InputError` lists the known engines."""
        for engine in self.engines:
            if engine.name == name:
                return engine
        raise InputError(f'no factors for the engine "{name}"; known: {", ".join(e.name for e in self.engines)}')

    def accuracy(self, chip: Chip) -> ChipAccuracy:
        """Return the errors on this chip of models that the fit had not seen."""
        for row in self.accuracies:
            if row.chip == chip.name:
                return row
        fallback = self.family(chip).accuracy
        return ChipAccuracy(chip=chip.name, tpot=fallback, throughput=fallback)

    def correction(self, model: str, chip: str, precision: Precision) -> Correction | None:
        """Return the published correction of this model on this chip, where there is one."""
        for row in self.corrections:
            if (row.model, row.chip, row.precision) == (model, chip, precision):
                return row
        return None


@cache
def shipped_efficiencies() -> Efficiencies:
    """Return the efficiencies inside the package."""
    text = (files("secondsource.profiles") / "data" / "efficiency.toml").read_text("utf-8")
    return msgspec.convert(tomllib.loads(text), Efficiencies)
