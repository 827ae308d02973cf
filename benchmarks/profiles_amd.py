"""How AMD's chips compare with NVIDIA's on MLPerf's Llama 2 70B, relative to what the roofline says of both.

AMD publishes no serving points in the collection that the fit uses. MLPerf v5.1's offline results of one model, at
8 bits, on both vendors' chips give one factor: how much longer an AMD chip takes than the Hopper coefficients on its
data sheet predict, where H100 and H200 take the time that they predict. Ratios cancel what we do not know of the
task's sizes. Median results of the round; rates per chip are derived and not verified by MLCommons.
"""

import csv
from pathlib import Path
from statistics import median

import numpy as np
from profiles_model import Fit
from profiles_points import Point

from secondsource.catalog.records import Chip
from secondsource.profiles.models import one_model
from secondsource.profiles.roofline import Precision, Replica

ACCELERATORS = {
    "NVIDIA H100-SXM-80GB": "h100-sxm",
    "NVIDIA H200-SXM-141GB": "h200-sxm",
    "AMD Instinct MI300X 192GB HBM3": "mi300x",
    "AMD Instinct MI325X 256GB HBM3e": "mi325x",
}
INPUT_TOKENS, OUTPUT_TOKENS = 155.0, 294.0  # means of the task's OpenOrca sample, about; only ratios are used
MOST_RUNNING = 1024


def amd_factor(path: Path, fitted: Fit, chips: dict[str, Chip]) -> dict[str, object]:
    """Return the factor, its source, and the rows that it was found on."""
    rows = [_row(name, rates, fitted, chips) for name, rates in sorted(_rates(path).items())]
    behind = {str(row["chip"]): float(str(row["predicted"])) / float(str(row["measured"])) for row in rows}
    reference = median(behind[name] for name in ("h100-sxm", "h200-sxm"))
    factor = median(behind[name] for name in ("mi300x", "mi325x")) / reference
    return {
        "factor": round(max(1.0, factor), 4),
        "source": "coefficients of Hopper, times a factor from MLPerf Inference v5.1 closed, llama2-70b-99 Offline "
        "fp8, medians of MI300X and MI325X against H100 and H200; not verified by MLCommons",
        "rows": rows,
    }


def _rates(path: Path) -> dict[str, list[float]]:
    rates: dict[str, list[float]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            wanted = (row["round"], row["division"], row["model"], row["scenario"], row["dtype"])
            if wanted == ("v5.1", "closed", "llama2-70b-99", "Offline", "fp8") and row["accelerator"] in ACCELERATORS:
                per_chip = float(row["result"]) / float(row["n_accel"])
                rates.setdefault(ACCELERATORS[row["accelerator"]], []).append(per_chip)
    return rates


def _row(name: str, rates: list[float], fitted: Fit, chips: dict[str, Chip]) -> dict[str, object]:
    """Return output tokens per second and chip, measured and predicted by Hopper's coefficients at full batch."""
    best = 0.0
    for ways in (1, 2, 4):
        # The reference chip's name makes the fit use Hopper's coefficients; the numbers are the chip's own.
        stand_in = Chip(**{**{f: getattr(chips[name], f) for f in Chip.__struct_fields__}, "name": "h100-sxm"})
        point = Point(
            model=one_model("llama-2-70b"),
            replica=Replica(chip=stand_in, chips=ways, precision=Precision.FP8, cache_bytes=1),
            engine="vllm",
            concurrency=MOST_RUNNING * ways,
            input_tokens=INPUT_TOKENS,
            output_tokens=OUTPUT_TOKENS,
            tpot_s=1.0,
        )
        (tpot,) = fitted.tpot_s([point])
        best = max(best, float(point.running / np.float64(tpot) / ways))
    return {"chip": name, "measured": round(median(rates), 1), "predicted": round(best, 1), "results": len(rates)}
