"""The profiles beside NVIDIA's aiconfigurator on a sample of the same measured points.

    python benchmarks/profiles_peer.py sample DATA_DIR SAMPLE.json     (numpy, scipy, pyarrow, the package)
    python benchmarks/profiles_peer.py peer SAMPLE.json RESULT.json    (aiconfigurator==0.12.0, in its own environment)

`sample` writes points with our prediction by a fit that never saw the point's model; `peer` adds aiconfigurator's and
prints both errors over the points that it can estimate. Its kernel tables were measured with these models' shapes.
"""

import argparse
import json
import random
import sys
import time
from pathlib import Path

PEER_MODELS = {
    "llama-3.1-8b": "meta-llama/Meta-Llama-3.1-8B",
    "llama-3.1-70b": "meta-llama/Meta-Llama-3.1-70B",
    "qwen3-235b-a22b": "Qwen/Qwen3-235B-A22B",
    "qwen3.5-397b-a17b": "Qwen/Qwen3.5-397B-A17B",
    "deepseek-v3": "deepseek-ai/DeepSeek-V3",
    "kimi-k2.5": "moonshotai/Kimi-K2.5",
    "glm-5": "zai-org/GLM-5",
    "minimax-m2.5": "MiniMaxAI/MiniMax-M2.5",
}
PEER_SYSTEMS = {"h100-sxm": "h100_sxm", "h200-sxm": "h200_sxm", "b200-sxm": "b200_sxm", "b300-sxm": "b300_sxm"}
PEER_FORMATS = {"bf16": "bfloat16", "fp8": "fp8", "fp4": "nvfp4", "int4": "int4_wo"}
SEED = 20261122


def sample(data: Path, output: Path, count: int) -> None:
    """Write `count` points drawn at random with what the fit without their model predicts."""
    # Imported here: the other half runs where none of these is installed.
    from datetime import date  # noqa: PLC0415

    from profiles_fit import fits_without, leave_models_out  # noqa: PLC0415
    from profiles_points import silicon_points, tpu_points  # noqa: PLC0415

    from secondsource.catalog.load import shipped_catalog  # noqa: PLC0415

    chips = {chip.name: chip for chip in shipped_catalog(date.today()).chips}
    points = [*silicon_points(data / "aic_silicon_all.parquet", chips).points, *tpu_points(data, chips)]
    judged = leave_models_out(points, fits_without(points))
    usable = [place for place, point in enumerate(judged.points) if point.replica.chip.name in PEER_SYSTEMS]
    rows = []
    for place in random.Random(SEED).sample(usable, count):  # noqa: S311 -- a sample, not a secret
        point = judged.points[place]
        rows.append(
            {
                "model": point.model.name,
                "chip": point.replica.chip.name,
                "chips": point.replica.chips,
                "data_parallel": point.replica.data_parallel,
                "precision": point.replica.precision.value,
                "experts": point.model.experts > 0,
                "engine": point.engine,
                "concurrency": point.concurrency,
                "input_tokens": point.input_tokens,
                "output_tokens": point.output_tokens,
                "measured_tpot_s": point.tpot_s,
                "ours_tpot_s": point.tpot_s * (1 + float(judged.tpot[place])),
            }
        )
    output.write_text(json.dumps(rows, indent=1), encoding="utf-8")


def peer(source: Path, output: Path) -> None:
    """Add aiconfigurator's estimates, and print both errors over the points that it estimates."""
    rows = json.loads(source.read_text(encoding="utf-8"))
    began = time.perf_counter()
    for row in rows:
        row["peer_tpot_s"], row["peer_refusal"] = _estimate(row)
    seconds = time.perf_counter() - began
    known = [row for row in rows if row["peer_tpot_s"]]
    report = {"points": len(rows), "estimated_by_both": len(known), "peer_seconds": round(seconds, 1)}
    for name in ("ours", "peer"):
        errors = sorted(abs(row[f"{name}_tpot_s"] / row["measured_tpot_s"] - 1) for row in known)
        report[name] = {"median": errors[len(errors) // 2], "p90": errors[int(len(errors) * 0.9)]} if errors else None
    output.write_text(json.dumps({"report": report, "rows": rows}, indent=1), encoding="utf-8")
    sys.stdout.write(json.dumps(report, indent=1) + "\n")


def _estimate(row: dict) -> tuple[float | None, str]:
    from aiconfigurator.cli.api import cli_estimate  # noqa: PLC0415 -- as above

    copies, chips = row["data_parallel"], row["chips"]
    expert_ways = chips if copies > 1 else 1
    quantised = PEER_FORMATS[row["precision"]]
    dense = "bfloat16" if row["experts"] and row["precision"] in {"fp4", "int4"} else quantised
    options = {
        "backend_name": row["engine"],
        "isl": int(row["input_tokens"]),
        "osl": int(row["output_tokens"]),
        "batch_size": max(1, int(row["concurrency"] / copies)),
        "tp_size": chips // copies,
        "attention_dp_size": copies,
        "gemm_quant_mode": "fp8_block" if dense == "fp8" and row["model"] == "deepseek-v3" else dense,
    }
    if row["experts"]:
        experts = "fp8_block" if quantised == "fp8" else quantised
        options |= {"moe_tp_size": chips // expert_ways, "moe_ep_size": expert_ways, "moe_quant_mode": experts}
    try:
        found = cli_estimate(PEER_MODELS[row["model"]], PEER_SYSTEMS[row["chip"]], **options)
    except Exception as error:  # noqa: BLE001 -- the peer refuses in many ways; each is counted and kept with its text
        return None, f"{type(error).__name__}: {error}"[:200]
    return (found.tpot / 1e3, "") if found.tpot and found.tpot > 0 else (None, "no estimate")


def main() -> None:
    """Run one of the two halves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("half", choices=["sample", "peer"])
    parser.add_argument("source", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--count", type=int, default=160)
    arguments = parser.parse_args()
    if arguments.half == "sample":
        sample(arguments.source, arguments.output, arguments.count)
    else:
        peer(arguments.source, arguments.output)


if __name__ == "__main__":
    main()
