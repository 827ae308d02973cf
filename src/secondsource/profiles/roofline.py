"""The roofline: how long a chip would take for each part of a step if it reached its data sheet.

One step of a transformer moves weights and cache, multiplies, talks between chips and launches kernels. Each
part is a term, in seconds at 100% of the data sheet (or, for launches, in units of a microsecond each). A
predicted time is the sum of terms times coefficients fitted to published measurements; those of physical
terms are never below 1, so that no prediction beats the data sheet. Sums rather than maxima: engines overlap
little, and the sum predicted left-out models as well as any blend (see docs/profiles.md).

Source of the counts: Pope et al., "Efficiently Scaling Transformer Inference", arXiv:2211.05102; for experts
touched, independent uniform choices: E(1 - (1 - k/E)^B).
"""

import math
from enum import StrEnum

import msgspec

from secondsource.catalog.records import Chip
from secondsource.profiles.architecture import Architecture

MEMORY_SHARE = 0.95  # of HBM that weights and cache may fill; the rest is buffers and graphs
ACTIVATION_BYTES = 2


class Precision(StrEnum):
    """Number format of the weights; caches stay in 16 bits."""

    BF16 = "bf16"
    FP8 = "fp8"
    INT8 = "int8"
    FP4 = "fp4"
    INT4 = "int4"  # multiplied in 16 bits


WEIGHT_BYTES = {
    Precision.BF16: 2.0,
    Precision.FP8: 1.0,
    Precision.INT8: 1.0,
    Precision.FP4: 0.5625,  # 4 bits and a scale of 8 bits per 16 weights
    Precision.INT4: 0.5625,
}


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds by part of a step. The first eleven are physical: at 100% of the data sheet."""

    dense_weights: float = 0.0  # reading weights that every token passes
    expert_weights: float = 0.0  # reading the routed experts that this batch touches
    dense_flops: float = 0.0
    expert_flops: float = 0.0
    cache: float = 0.0
    attention_flops: float = 0.0
    links: float = 0.0  # bytes of collectives
    prefill_dense_flops: float = 0.0
    prefill_expert_flops: float = 0.0
    prefill_attention_flops: float = 0.0
    prefill_links: float = 0.0
    hops: float = 0.0  # latency of collectives
    layers: float = 0.0  # launches in any layer
    expert_layers: float = 0.0
    latent_layers: float = 0.0
    linear_layers: float = 0.0
    sparse_layers: float = 0.0
    step: float = 0.0  # a millisecond of scheduling
    sequences: float = 0.0  # a microsecond of sampling and text for each
    prefill_tokens: float = 0.0  # a nanosecond for each token and layer

    def values(self) -> tuple[float, ...]:
        """Return the terms in the order of their names."""
        return msgspec.structs.astuple(self)


TERM_NAMES: tuple[str, ...] = Terms.__struct_fields__
PHYSICAL = TERM_NAMES[:11]
OVERHEADS = TERM_NAMES[11:]


class Replica(msgspec.Struct, frozen=True, kw_only=True):
    """The chips that hold one copy of a model, and how its numbers are stored."""

    chip: Chip
    chips: int
    precision: Precision
    data_parallel: int = 1  # attention copies; the rest of the chips split each layer
    cache_bytes: int = 2  # per element

    @property
    def tensor_parallel(self) -> float:
        """Chips that split one attention layer."""
        return self.chips / self.data_parallel


def peak_flops(chip: Chip, precision: Precision) -> float:
    """Return the dense operations per second of one chip; 16-bit where it has no faster format."""
    faster = {
        Precision.FP8: chip.fp8_tflops or chip.int8_tops,
        Precision.INT8: chip.int8_tops or chip.fp8_tflops,
        Precision.FP4: chip.fp4_tflops,
    }.get(precision)
    return max(faster or 0.0, chip.bf16_tflops) * 1e12


def attention_precision(model: Architecture, precision: Precision) -> Precision:
    """Return the format of attention weights: models with experts keep them in 16 bits when those are 4."""
    narrow = precision in {Precision.FP4, Precision.INT4}
    return Precision.BF16 if narrow and model.experts else precision


def weight_bytes(model: Architecture, replica: Replica) -> float:
    """Return the bytes of all weights in the replica's memory, copies of attention included."""
    attention = WEIGHT_BYTES[attention_precision(model, replica.precision)]
    rest = WEIGHT_BYTES[replica.precision]
    experts = model.expert_layers * model.experts * model.expert_parameters
    every_token = model.attention_parameters * attention + model.dense_parameters * rest
    tables = model.head_parameters * (1 if model.tied_embeddings else 2) * WEIGHT_BYTES[Precision.BF16]
    return (every_token + tables) * replica.data_parallel + experts * rest


def cache_copies(model: Architecture, replica: Replica) -> float:
    """Return how often a cache element is stored: more chips than key-value heads means copies."""
    heads = 1 if model.latent else model.kv_heads
    return max(1.0, replica.tensor_parallel / heads)


def most_sequences(model: Architecture, replica: Replica, context_tokens: float) -> int:
    """Return how many sequences of this length fit beside the weights; 0 if not even the weights do."""
    free = replica.chips * replica.chip.hbm_gb * 1e9 * MEMORY_SHARE - weight_bytes(model, replica)
    each = model.cache_elements(context_tokens) * replica.cache_bytes * cache_copies(model, replica)
    return max(0, int(free / each)) if each else 0


def decode_terms(model: Architecture, replica: Replica, sequences: float, context_tokens: float) -> Terms:
    """Return the terms of one decode step: one new token for each of `sequences` at this mean context."""
    chip, chips = replica.chip, replica.chips
    bandwidth = chips * chip.hbm_tb_s * 1e12
    peak, half = peak_flops(chip, replica.precision), peak_flops(chip, Precision.BF16)
    attention_format = attention_precision(model, replica.precision)
    attention_peak = peak_flops(chip, attention_format)
    rest_bytes = WEIGHT_BYTES[replica.precision]
    dense_bytes = (
        model.attention_parameters * WEIGHT_BYTES[attention_format]
        + model.dense_parameters * rest_bytes
        + model.head_parameters * WEIGHT_BYTES[Precision.BF16]
    )
    touched = 0.0
    if model.experts:
        touched = model.experts * (1 - (1 - model.experts_per_token / model.experts) ** sequences)
    read = model.cache_elements_read(context_tokens) * replica.cache_bytes * cache_copies(model, replica)
    active = model.expert_layers * model.experts_per_token * model.expert_parameters
    return Terms(
        dense_weights=dense_bytes * replica.data_parallel / bandwidth,
        expert_weights=model.expert_layers * touched * model.expert_parameters * rest_bytes / bandwidth,
        dense_flops=2 * sequences / chips * _dense_work(model, attention_peak, peak, half),
        expert_flops=2 * sequences / chips * active / peak,
        cache=sequences * read / bandwidth,
        attention_flops=sequences * model.attention_flops(1, context_tokens, prefill=False) / chips / half,
        links=_link_seconds(model, replica, sequences),
        sequences=sequences * 1e-6,
        **_launches(model, chips),
    )


def prefill_terms(model: Architecture, replica: Replica, tokens: float, prompt_tokens: float) -> Terms:
    """Return the terms of working through `tokens` of prompts of this length, beside a running decode."""
    chip, chips = replica.chip, replica.chips
    peak, half = peak_flops(chip, replica.precision), peak_flops(chip, Precision.BF16)
    attention_peak = peak_flops(chip, attention_precision(model, replica.precision))
    active = model.expert_layers * model.experts_per_token * model.expert_parameters
    pairs = model.attention_flops(tokens, prompt_tokens / 2, prefill=True)
    return Terms(
        prefill_dense_flops=2 * tokens / chips * _dense_work(model, attention_peak, peak, math.inf),
        prefill_expert_flops=2 * tokens / chips * active / peak,
        prefill_attention_flops=pairs / chips / half,
        prefill_links=_link_seconds(model, replica, tokens),
        prefill_tokens=tokens * model.layers * 1e-9,
    )


def _dense_work(model: Architecture, attention_peak: float, peak: float, head_peak: float) -> float:
    """Return seconds per multiply-add of one token through what every token passes."""
    head = model.head_parameters / head_peak
    return model.attention_parameters / attention_peak + model.dense_parameters / peak + head


def _launches(model: Architecture, chips: int) -> dict[str, float]:
    return {
        "hops": model.layers * 2e-6 * math.log2(chips),
        "layers": model.layers * 1e-6,
        "expert_layers": model.expert_layers * 1e-6,
        "latent_layers": model.layers * 1e-6 if model.latent else 0.0,
        "linear_layers": model.linear_layers * 1e-6,
        "sparse_layers": model.layers * 1e-6 if model.sparse_top_tokens else 0.0,
        "step": 1e-3,
    }


def _link_seconds(model: Architecture, replica: Replica, tokens: float) -> float:
    """Return the time of the collectives for these tokens.

    Tensor parallel: two all-reduces a layer, each moving 2(t-1)/t of the activations. Attention copies: each
    token goes to its experts' chips and back.
    """
    per_token = model.layers * 2 * model.hidden * ACTIVATION_BYTES / (replica.chip.scaleup_gb_s * 1e9)
    ways = replica.tensor_parallel
    seconds = tokens / replica.data_parallel * per_token * 2 * (ways - 1) / ways
    if replica.data_parallel > 1:
        fan_out = min(replica.chips, max(model.experts_per_token, 1))
        seconds += tokens / replica.chips * per_token * fan_out * (replica.chips - 1) / replica.chips
    return seconds
