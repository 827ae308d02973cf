"""A model's numbers from the metadata of a GGUF file."""

import math
from collections.abc import Mapping, Sequence

from secondsource.core.errors import InputError
from secondsource.engine.config import ModelConfig
from secondsource.engine.families import FAMILIES, Family

_GEMMA3_27B_LAYERS = 62  # its queries are scaled by width / heads, as llama.cpp knows by this count too


def config_gguf(
    metadata: Mapping[str, object], *, vocabulary: int, tied: bool, rope_divisors: Sequence[float], where: str
) -> ModelConfig:
    """Return the config of a GGUF file's metadata and of what its tensors tell.

    `vocabulary` is the rows of `token_embd.weight`; `tied` whether it has no `output.weight`; `rope_divisors`
    its tensor `rope_freqs.weight`, empty if it has none; `where` names the file in errors. Raises InputError
    for an architecture that is not one of ours, or for a key that is missing.
    """
    family = _family(metadata, where)
    numbers = _Numbers(metadata, family.name, where)
    layers, width = numbers.whole("block_count"), numbers.whole("embedding_length")
    heads = numbers.whole("attention.head_count")
    head_width = numbers.whole("attention.key_length", width // heads)
    window = numbers.whole("attention.sliding_window", 0) if family.global_every else 0
    if not rope_divisors:
        rope_divisors = _linear_divisors(numbers, head_width)
    return ModelConfig(
        family=family.name,
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=numbers.whole("attention.head_count_kv", heads),
        head_width=head_width,
        feed_forward_width=numbers.whole("feed_forward_length"),
        vocabulary=vocabulary,
        context_tokens=numbers.whole("context_length"),
        norm_epsilon=numbers.real("attention.layer_norm_rms_epsilon"),
        rope_base=numbers.real("rope.freq_base", 10_000.0),
        rope_divisors=tuple(rope_divisors),
        tied_embeddings=tied,
        query_key_norm=family.query_key_norm,
        sandwich_norms=family.sandwich_norms,
        activation=family.activation,
        embedding_scale=math.sqrt(width) if family.scales_embedding else 1.0,
        query_scale=_query_scale(family, layers, width, heads),
        window_tokens=window,
        local_layers=tuple(index for index in range(layers) if window and (index + 1) % family.global_every),
        local_rope_base=numbers.real("rope.freq_base_swa", family.local_rope_base) if window else 0.0,
        attention_soft_cap=numbers.real("attn_logit_softcapping", 0.0),
        logit_soft_cap=numbers.real("final_logit_softcapping", 0.0),
    )


class _Numbers:
    """The metadata's numbers under one architecture's prefix."""

    def __init__(self, metadata: Mapping[str, object], prefix: str, where: str) -> None:
        self._metadata, self._prefix, self._where = metadata, prefix, where

    def text(self, key: str) -> str:
        """Return a text; empty when it is not there."""
        return str(self._metadata.get(f"{self._prefix}.{key}", ""))

    def whole(self, key: str, default: int | None = None) -> int:
        """Return a whole number; raises InputError when it is missing with no default."""
        return int(self.real(key, default))

    def real(self, key: str, default: float | None = None) -> float:
        """Return a number; raises InputError when it is missing with no default."""
        found = self._metadata.get(f"{self._prefix}.{key}", default)
        if not isinstance(found, int | float):
            state = "missing" if found is None else f"{found!r}, and one number was expected"
            raise InputError(f"{self._where}: the metadata key {self._prefix}.{key} is {state}")
        return float(found)


def _family(metadata: Mapping[str, object], where: str) -> Family:
    name = metadata.get("general.architecture")
    if isinstance(name, str) and name in FAMILIES:
        return FAMILIES[name]
    raise InputError(f"{where}: general.architecture is {name!r}; one of {', '.join(FAMILIES)} was expected")


def _linear_divisors(numbers: _Numbers, head_width: int) -> tuple[float, ...]:
    if numbers.text("rope.scaling.type") != "linear":
        return ()
    return (numbers.real("rope.scaling.factor"),) * (head_width // 2)


def _query_scale(family: Family, layers: int, width: int, heads: int) -> float:
    if family.name == "gemma3" and layers == _GEMMA3_27B_LAYERS:
        return math.sqrt(heads / width)
    return 0.0
