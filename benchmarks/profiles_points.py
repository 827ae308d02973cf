"""Published serving measurements as points for the profiles' fit.

Reads three public collections: the serving points that ship with ai-dynamo/aiconfigurator
(`aic_silicon_all.parquet`), served rates of sglang-jax and of Google's TPU recipes (`tpu_served.csv`,
`tpu_published_llm.csv`), and step times of jax-ml/jax-llm-examples, typed in `tpu_steps.csv` beside this file.
"""

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pyarrow.parquet

from secondsource.catalog.records import Chip
from secondsource.core.errors import InputError
from secondsource.profiles.architecture import Architecture
from secondsource.profiles.models import one_model
from secondsource.profiles.roofline import Precision, Replica, Terms, decode_terms, most_sequences, prefill_terms

CHIPS = {
    "h100_sxm": "h100-sxm",
    "h200_sxm": "h200-sxm",
    "b200_sxm": "b200-sxm",
    "b300_sxm": "b300-sxm",
    "gb200": "gb200-nvl72",
    "tpu-v5e": "tpu-v5e",
    "tpu-v6e": "tpu-v6e",
    "tpu-v7x-ironwood": "tpu7x",
}
_PRECISIONS = {"fp8_block": "fp8", "float16": "bf16", None: "bf16"}
STEPS = Path(__file__).with_name("tpu_steps.csv")
# Tokens in each slot of the published step times. Not published; their kernel reads only what is filled, and their
# prefill times rule out prompts above 870 tokens (the data sheet's peak), which are padded to a power of two.
FILLED = 1024
STEADY = 0.9  # of the labelled concurrency that must have been there, for a row to be of a steady state
BARE = "jax"  # a compiled step without a server around it


@dataclass(frozen=True)
class Point:
    """One measured steady state: concurrency in, time per output token out."""

    model: Architecture
    replica: Replica
    engine: str
    concurrency: float
    input_tokens: float
    output_tokens: float
    tpot_s: float
    ttft_s: float | None = None

    @property
    def running(self) -> float:
        """Sequences that run at once: the concurrency, or less where memory holds fewer."""
        if not self.input_tokens:  # a step's time was measured, so its batch did fit
            return self.concurrency
        room = most_sequences(self.model, self.replica, self.input_tokens + 0.6 * self.output_tokens)
        return min(self.concurrency, max(1, room))

    @property
    def output_tokens_per_s(self) -> float | None:
        """The replica's output rate by Little's law, where the time to the first token is known."""
        if self.ttft_s is None:
            return None
        whole = self.ttft_s + (self.output_tokens - 1) * self.tpot_s
        return self.concurrency * self.output_tokens / whole

    def terms(self) -> tuple[float, ...]:
        """Return the roofline's terms of one output token of every running sequence."""
        context = self.input_tokens + self.output_tokens / 2
        decode = decode_terms(self.model, self.replica, self.running, context)
        tokens = self.running * self.input_tokens / self.output_tokens
        prefill = prefill_terms(self.model, self.replica, tokens, max(1.0, self.input_tokens))
        if self.engine == BARE:  # nothing is scheduled, sampled by a host or turned into text
            decode = msgspec.structs.replace(decode, step=0.0, sequences=0.0)
        return _added(decode, prefill)

    def first_terms(self) -> tuple[float, ...]:
        """Return the terms of one prompt's own way through an idle replica."""
        decode = decode_terms(self.model, self.replica, 1, self.input_tokens)
        prefill = prefill_terms(self.model, self.replica, self.input_tokens, max(1.0, self.input_tokens))
        return _added(decode, prefill)


def _added(decode: Terms, prefill: Terms) -> tuple[float, ...]:
    return tuple(map(sum, zip(decode.values(), prefill.values(), strict=True)))


@dataclass(frozen=True)
class Points:
    """What is fitted to, and how many rows were left out, by reason."""

    points: tuple[Point, ...]
    left_out: dict[str, int]


def silicon_points(path: Path, chips: dict[str, Chip]) -> Points:
    """Return the aggregated-serving rows of aiconfigurator's sample that say how they were run."""
    points: list[Point] = []
    left_out: dict[str, int] = {}
    for row in pyarrow.parquet.read_table(path).to_pylist():
        reason = _unusable(row)
        if reason:
            left_out[reason] = left_out.get(reason, 0) + 1
        else:
            points.append(_silicon_point(row, chips))
    return Points(tuple(points), left_out)


def _unusable(row: dict[str, object]) -> str:
    """Return why a row is left out: decided by what the row says of itself, never by how it fits."""
    if row["mode"] != "agg":
        return "prefill and decode on separate chips"
    if row["concurrency"] is None:
        return "no concurrency"
    if str(row["system"]).startswith("gb"):
        return "a rack's total of separate prefill and decode chips, labelled as one group"
    version, day = row["backend_version"], str(row["measured"] or "")
    speculating = version == "1.2.0rc6.post3" or (version == "1.1.0rc2.post2" and day >= "2026-01-14")
    if "DeepSeek" in str(row["model_path"]) and row["backend"] == "trtllm" and speculating:
        return "speculative decoding, not declared: two images of a campaign at half their siblings' TPOT"
    return ""


def _silicon_point(row: dict[str, object], chips: dict[str, Chip]) -> Point:
    group, copies = _layout(row)
    named = row["precision"] or row["gemm_quant_mode"]
    precision = Precision(_PRECISIONS.get(named, named))  # type: ignore[call-overload, arg-type]
    # TensorRT-LLM's published recipes keep the cache in 8 bits with 8-bit weights; the others keep 16.
    narrow = row["backend"] == "trtllm" and precision != Precision.BF16
    return Point(
        model=one_model(str(row["model_path"])),
        replica=Replica(
            chip=chips[CHIPS[str(row["system"])]],
            chips=group,
            precision=precision,
            data_parallel=copies,
            cache_bytes=1 if narrow else 2,
        ),
        engine=str(row["backend"]),
        concurrency=_number(row["concurrency"]),
        input_tokens=_number(row["isl"]),
        output_tokens=_number(row["osl"]),
        tpot_s=_number(row["silicon_tpot_ms"]) / 1e3,
        ttft_s=_number(row["silicon_ttft_ms"]) / 1e3,
    )


def _layout(row: dict[str, object]) -> tuple[int, int]:
    """Return chips and attention copies; the labels multiply tensor and expert ways that share the same chips."""
    tensor, copies = int(_number(row["tp_size"])), int(_number(row["attention_dp_size"] or 1))
    moe_tensor, experts = int(_number(row["moe_tp_size"] or 1)), int(_number(row["moe_ep_size"] or 1))
    if copies > 1:
        group = tensor if tensor > 1 else (moe_tensor * experts if moe_tensor * experts <= 8 else experts)
        return group, group
    if tensor > 8:
        return tensor // experts, 1
    group = max(tensor, moe_tensor * experts) if moe_tensor * experts <= 8 else tensor
    return group, group // tensor


def tpu_points(directory: Path, chips: dict[str, Chip]) -> tuple[Point, ...]:
    """Return the TPU rows that give a time per step, or a rate at a concurrency."""
    points = [_step_point(row, chips) for row in _rows(STEPS)]
    for name in ("tpu_served.csv", "tpu_published_llm.csv"):
        points += [_served_point(row, chips) for row in _rows(directory / name) if row["concurrency"]]
    return tuple(points)


def _step_point(row: dict[str, str], chips: dict[str, Chip]) -> Point:
    ways = int(row["tensor_parallel"])
    return Point(
        model=one_model(row["model"]),
        replica=Replica(
            chip=chips[CHIPS[row["chip"]]],
            chips=ways,
            precision=Precision(row["weights"]),
            cache_bytes=int(row["cache_bytes"]),
        ),
        engine=BARE,
        concurrency=float(row["batch"]) / int(row["data_parallel"]),
        input_tokens=0.0,
        output_tokens=2.0 * FILLED,  # a mean context of what is filled
        tpot_s=1 / float(row["steps_per_s"]),
    )


def _served_point(row: dict[str, str], chips: dict[str, Chip]) -> Point:
    concurrency, rate = float(row["concurrency"]), float(row["out_tok_s_total"])
    ttft_s = float(row["ttft_mean_ms"]) / 1e3 if row["ttft_mean_ms"] else None
    tpot_s = float(row["tpot_mean_ms"]) / 1e3 if row["tpot_mean_ms"] else concurrency / rate
    if ttft_s is not None:
        there = rate / float(row["osl"]) * (ttft_s + (float(row["osl"]) - 1) * tpot_s)  # on average, by Little's law
        if there < STEADY * concurrency:  # a burst that drained: its batch is known, a steady rate is not
            concurrency, ttft_s = there, None
    return Point(
        model=one_model(row["model"]),
        replica=Replica(
            chip=chips[CHIPS[row["chip"]]],
            chips=int(row["chips"]),
            precision=Precision.BF16,
        ),
        engine=row["engine"].split()[0].lower(),
        concurrency=concurrency,
        input_tokens=float(row["isl"]),
        output_tokens=float(row["osl"]),
        tpot_s=tpot_s,
        ttft_s=ttft_s,
    )


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; give the directory of the measurements") from None


def _number(value: object) -> float:
    number = float(str(value))
    return 1.0 if math.isnan(number) else number
