"""Fit the profiles' efficiencies to published measurements, judge them on models left out, and ship the result.

    python benchmarks/profiles_fit.py DATA_DIR [--write] [--json REPORT.json]

DATA_DIR holds the collections named in `profiles_points`, and MLPerf's datacenter results as `mlperf_datacenter.csv`.
Needs numpy, scipy and pyarrow beside the package. `--write` replaces `profiles/data/efficiency.toml`.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
from profiles_amd import amd_factor
from profiles_model import ENGINES, FAMILIES, Fit, Floats, fit
from profiles_points import Point, silicon_points, tpu_points

from secondsource.catalog.load import shipped_catalog
from secondsource.profiles.roofline import TERM_NAMES

OUTPUT = Path(__file__).parents[1] / "src" / "secondsource" / "profiles" / "data" / "efficiency.toml"
TPOT_LIMITS_S = (0.02, 0.03, 0.05, 0.08, 0.12)
FEWEST = 5  # measurements of a model on a chip that make a correction, and of a chip that make an error bar


@dataclass(frozen=True)
class Judged:
    """Points with signed relative errors of the time per token and of the rate (NaN where that is not known)."""

    points: tuple[Point, ...]
    tpot: Floats
    throughput: Floats

    def only(self, chosen: Sequence[bool]) -> "Judged":
        """Return the points for which `chosen` is true."""
        mask = np.array(chosen)
        kept = tuple(point for point, keep in zip(self.points, chosen, strict=True) if keep)
        return Judged(kept, self.tpot[mask], self.throughput[mask])


def judge(fitted: Fit, points: Sequence[Point]) -> Judged:
    """Return the errors of a fit on these points."""
    predicted, first = fitted.tpot_s(points), fitted.first_s(points)
    outputs = np.array([point.output_tokens for point in points])
    running = np.array([point.running for point in points])
    rates = np.array([point.output_tokens_per_s or np.nan for point in points])
    rate = running * outputs / (np.maximum(first, predicted) + (outputs - 1) * predicted)
    return Judged(tuple(points), predicted / np.array([point.tpot_s for point in points]) - 1, rate / rates - 1)


def fits_without(points: Sequence[Point]) -> dict[str, Fit]:
    """Return, by model, a fit to the points of all the others."""
    names = sorted({point.model.name for point in points})
    return {name: fit([point for point in points if point.model.name != name]) for name in names}


def leave_models_out(points: Sequence[Point], fits: dict[str, Fit]) -> Judged:
    """Return the errors on each model of the fit to all the others."""
    parts = [judge(without, [point for point in points if point.model.name == name]) for name, without in fits.items()]
    return Judged(
        tuple(point for part in parts for point in part.points),
        np.concatenate([part.tpot for part in parts]),
        np.concatenate([part.throughput for part in parts]),
    )


def under_limits(points: Sequence[Point], fits: dict[str, Fit]) -> dict[str, object]:
    """Return how well the best rate per chip under a TPOT limit is predicted, by a fit without the model.

    Each group of points that differ in concurrency alone is a choice: both the measured and the predicted best are
    over the same concurrencies. A limit that only one of the two thinks can be kept is counted and no error.
    """
    groups: dict[object, list[Point]] = {}
    for point in points:
        if point.output_tokens_per_s:
            key = (point.model.name, point.replica, point.engine, point.input_tokens, point.output_tokens)
            groups.setdefault(key, []).append(point)
    errors: list[float] = []
    agreed = disagreed = 0
    for group in groups.values():
        judged = judge(fits[group[0].model.name], group)
        measured = np.array([point.output_tokens_per_s or 0.0 for point in group])
        tpot = np.array([point.tpot_s for point in group])
        for limit in TPOT_LIMITS_S:
            real = float(np.max(measured, where=tpot <= limit, initial=0.0))
            hoped = (judged.tpot + 1) * tpot <= limit
            guess = float(np.max(measured * (judged.throughput + 1), where=hoped, initial=0.0))
            if real and guess:
                errors.append(guess / real - 1)
            agreed, disagreed = agreed + (bool(real) == bool(guess)), disagreed + (bool(real) != bool(guess))
    return {**accuracy(np.array(errors)), "agree_whether_it_can": agreed, "disagree": disagreed}


def accuracy(errors: Floats) -> dict[str, float]:
    """Return the median and the 90th percentile of the absolute errors, and their number."""
    known = np.abs(errors[~np.isnan(errors)])
    if not known.size:
        return {"median": 1.0, "p90": 1.0, "points": 0}
    median, high = np.quantile(known, [0.5, 0.9])
    return {"median": round(float(median), 4), "p90": round(float(high), 4), "points": int(known.size)}


def by_chip(judged: Judged) -> list[dict[str, object]]:
    """Return both accuracies for each chip."""
    rows: list[dict[str, object]] = []
    for chip in sorted({point.replica.chip.name for point in judged.points}):
        part = judged.only([point.replica.chip.name == chip for point in judged.points])
        rate = accuracy(part.throughput)
        row = {"chip": chip, "tpot": accuracy(part.tpot), "throughput": rate}
        rows.append(row if rate["points"] else row | {"throughput": row["tpot"]})
    return rows


def corrections(fitted: Fit, points: Sequence[Point]) -> list[dict[str, object]]:
    """Return, for each model, chip and format measured often enough, measured over predicted and what remains."""
    groups: dict[tuple[str, str, str], list[Point]] = {}
    for point in points:
        groups.setdefault((point.model.name, point.replica.chip.name, point.replica.precision.value), []).append(point)
    rows: list[dict[str, object]] = []
    for (model, chip, precision), group in sorted(groups.items()):
        if len(group) >= FEWEST:
            errors = judge(fitted, group).tpot
            factor = float(np.exp(np.median(-np.log1p(errors))))
            left = accuracy((errors + 1) * factor - 1)
            rows.append(
                {"model": model, "chip": chip, "precision": precision, "factor": round(factor, 4), "accuracy": left}
            )
    return rows


def toml(value: object) -> str:
    """Return a value of the tables below as TOML."""
    match value:
        case dict():
            return "{ " + ", ".join(f"{key} = {toml(each)}" for key, each in value.items()) + " }"
        case list() | tuple():
            return "[" + ", ".join(toml(each) for each in value) + "]"
        case date() | int() | float():
            return str(value)
        case _:
            return json.dumps(str(value), ensure_ascii=False)


def document(fitted: Fit, left_out: Judged, fixed: list[dict[str, object]], amd: dict[str, object]) -> str:
    """Return the text of `efficiency.toml`."""
    nvidia = left_out.only([not point.replica.chip.name.startswith("tpu") for point in left_out.points])
    parts = [
        "# Written by benchmarks/profiles_fit.py; do not edit.\n",
        f"as_of = {date.today()}",
        f"source = {toml(SOURCE)}\n",
    ]
    for family, row in zip(FAMILIES, fitted.coefficients, strict=True):
        parts.append(f"[coefficients.{family}]")
        parts += [f"{name} = {value:.4f}" for name, value in zip(TERM_NAMES, row, strict=True)]
        parts.append("")
    for name, (physical, overhead) in zip(ENGINES, fitted.engines, strict=True):
        parts.append(f'[[engines]]\nname = "{name}"\nphysical = {physical:.4f}\noverhead = {overhead:.4f}\n')
    for family_row in families(accuracy(nvidia.tpot), amd):
        parts += ["[[families]]", *(f"{key} = {toml(value)}" for key, value in family_row.items()), ""]
    for table, rows in (("accuracies", enough(by_chip(left_out))), ("corrections", fixed)):
        for table_row in rows:
            parts += [f"[[{table}]]", *(f"{key} = {toml(value)}" for key, value in table_row.items()), ""]
    return "\n".join(parts).rstrip() + "\n"


SOURCE = (
    "serving points of ai-dynamo/aiconfigurator@095f58a (InferenceX, March to April 2026, and NVIDIA's own runs), "
    "step times of jax-ml/jax-llm-examples@8b4b246, served rates of sgl-project/sglang-jax@cddbf6f and "
    "AI-Hypercomputer/tpu-recipes@c8cfe2f, MLPerf Inference v5.1 for AMD; fitted here"
)


def enough(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """Return the rows that stand on enough points to be an error bar."""
    return [row for row in rows if dict(row["tpot"])["points"] >= FEWEST]  # type: ignore[call-overload]


def families(nvidia: dict[str, float], amd: dict[str, object]) -> list[dict[str, object]]:
    """Return which chips take whose coefficients, and the error expected where a chip was never measured.

    Twice the error of left-out models stands for chips that lean on another vendor's coefficients: an estimate,
    not a measurement, and it says so by having 0 points.
    """
    doubled = {"median": round(2 * nvidia["median"], 3), "p90": round(2 * nvidia["p90"], 3), "points": 0}
    same = {"median": nvidia["median"], "p90": nvidia["p90"], "points": 0}
    fitted = "fitted to published measurements of this family"
    return [
        {"name": "nvidia-hopper", "like": "nvidia-hopper", "chips": ["h100-sxm", "h200-sxm"], "engine": "vllm",
         "source": fitted, "accuracy": same},
        {"name": "nvidia-blackwell", "like": "nvidia-blackwell", "engine": "vllm",
         "chips": ["b200-sxm", "b300-sxm", "gb200-nvl72", "gb300-nvl72"], "source": fitted, "accuracy": same},
        {"name": "nvidia-older", "like": "nvidia-hopper", "engine": "vllm",
         "chips": ["a100-sxm-80", "h100-nvl", "l4", "l40s", "rtx-pro-6000"],
         "source": "coefficients of Hopper; never measured", "accuracy": doubled},
        {"name": "google-tpu", "like": "google-tpu", "chips": ["tpu-v5e", "tpu-v5p", "tpu-v6e", "tpu7x"],
         "engine": "sglang-jax", "source": fitted, "accuracy": doubled},
        {"name": "amd-instinct", "like": "nvidia-hopper", "chips": ["mi300x", "mi325x", "mi355x"], "engine": "vllm",
         "factor": amd["factor"], "source": amd["source"], "accuracy": doubled},
        {"name": "others", "like": "nvidia-hopper", "chips": ["*"], "engine": "vllm",
         "source": "coefficients of Hopper on this chip's data sheet; never measured", "accuracy": doubled},
    ]  # fmt: skip


def main() -> None:
    """Fit, judge, print the error table, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the directory of the measurements")
    parser.add_argument("--mlperf", type=Path, required=True, help="MLPerf's datacenter results as one CSV")
    parser.add_argument("--write", action="store_true", help=f"replace {OUTPUT.name}")
    parser.add_argument("--json", type=Path, help="also write the error tables here")
    arguments = parser.parse_args()
    chips = {chip.name: chip for chip in shipped_catalog(date.today()).chips}
    silicon = silicon_points(arguments.data / "aic_silicon_all.parquet", chips)
    points = [*silicon.points, *tpu_points(arguments.data, chips)]
    fitted = fit(points)
    fits = fits_without(points)
    left_out = leave_models_out(points, fits)
    amd = amd_factor(arguments.mlperf, fitted, chips)
    tables = {
        "points": len(points),
        "rows_left_out": silicon.left_out,
        "all": {"tpot": accuracy(left_out.tpot), "throughput": accuracy(left_out.throughput)},
        "seen": {"tpot": accuracy(judge(fitted, points).tpot)},
        "by_chip": by_chip(left_out),
        "by_model": [
            {"model": name, **accuracy(left_out.only([p.model.name == name for p in left_out.points]).tpot)}
            for name in sorted({point.model.name for point in points})
        ],
        "under_tpot_limits": under_limits(points, fits),
        "mlperf": amd["rows"],
    }
    sys.stdout.write(json.dumps(tables, indent=1) + "\n")
    if arguments.json:
        arguments.json.write_text(json.dumps(tables, indent=1), encoding="utf-8")
    if arguments.write:
        OUTPUT.write_text(document(fitted, left_out, corrections(fitted, points), amd), encoding="utf-8")


if __name__ == "__main__":
    main()
