"""A model's numbers from a Hugging Face `config.json`, of transformers 4 or 5."""

import math
from collections.abc import Mapping
from typing import Annotated

import msgspec

from secondsource.core.errors import InputError
from secondsource.engine.config import ModelConfig
from secondsource.engine.families import FAMILIES, Family

_Numbers = Mapping[str, object]
_Count = Annotated[int, msgspec.Meta(ge=1)]


class _Rope(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of layer's rotary parameters, under the names both versions use inside the mapping."""

    rope_type: str = "default"
    rope_theta: float = 10_000.0
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position_embeddings: int = 8192


class _Document(msgspec.Struct, frozen=True, kw_only=True):
    """The keys that are read, with transformers' own defaults where a model may leave them out."""

    num_hidden_layers: _Count
    hidden_size: _Count
    num_attention_heads: _Count
    intermediate_size: _Count
    vocab_size: _Count
    num_key_value_heads: _Count | None = None
    head_dim: _Count | None = None
    max_position_embeddings: _Count = 131_072
    rms_norm_eps: float = 1e-6
    rope_theta: float | None = None
    rope_local_base_freq: float = 10_000.0
    rope_scaling: dict[str, object] | None = None
    rope_parameters: dict[str, object] | None = None
    tie_word_embeddings: bool | None = None
    attention_bias: bool = False
    mlp_bias: bool = False
    sliding_window: int | None = None
    sliding_window_pattern: int | None = None
    layer_types: list[str] | None = None
    use_sliding_window: bool | None = None
    query_pre_attn_scalar: float | None = None
    attn_logit_softcapping: float | None = None
    final_logit_softcapping: float | None = None


def config_huggingface(document: _Numbers, where: str = "config.json") -> ModelConfig:
    """Return the config of a Hugging Face `config.json`, parsed; `where` names it in errors.

    Raises InputError for an architecture or a kind of rope scaling that is not one of ours.
    """
    family = _family(document, where)
    inner = document.get("text_config")
    try:
        read = msgspec.convert(inner if isinstance(inner, dict) else document, _Document)
    except msgspec.ValidationError as error:
        raise InputError(f"{where}: {error}; a Hugging Face config.json was expected") from error
    if read.attention_bias or read.mlp_bias:
        raise InputError(f"{where}: attention_bias or mlp_bias is true; layers with biases are not supported")
    kv_heads = read.num_key_value_heads or read.num_attention_heads
    if read.num_attention_heads % kv_heads:
        raise InputError(
            f"{where}: num_attention_heads is {read.num_attention_heads}, and a multiple of num_key_value_heads "
            f"({kv_heads}) was expected"
        )
    tied = read.tie_word_embeddings
    if tied is None:
        tied = document.get("tie_word_embeddings", family.scales_embedding) is True
    head_width = read.head_dim or read.hidden_size // read.num_attention_heads
    wide, local = _ropes(read, family, where)
    local_layers = _local_layers(read, family)
    return ModelConfig(
        family=family.name,
        layers=read.num_hidden_layers,
        width=read.hidden_size,
        heads=read.num_attention_heads,
        kv_heads=kv_heads,
        head_width=head_width,
        feed_forward_width=read.intermediate_size,
        vocabulary=read.vocab_size,
        context_tokens=read.max_position_embeddings,
        norm_epsilon=read.rms_norm_eps,
        rope_base=wide.rope_theta,
        rope_divisors=_divisors(wide, head_width, where),
        tied_embeddings=tied,
        query_key_norm=family.query_key_norm,
        sandwich_norms=family.sandwich_norms,
        activation=family.activation,
        embedding_scale=math.sqrt(read.hidden_size) if family.scales_embedding else 1.0,
        query_scale=read.query_pre_attn_scalar**-0.5 if read.query_pre_attn_scalar else 0.0,
        window_tokens=(read.sliding_window or 0) if local_layers else 0,
        local_layers=local_layers,
        local_rope_base=local if local_layers else 0.0,
        attention_soft_cap=read.attn_logit_softcapping or 0.0,
        logit_soft_cap=read.final_logit_softcapping or 0.0,
    )


def _family(document: _Numbers, where: str) -> Family:
    named = document.get("architectures")
    names = [str(name) for name in named] if isinstance(named, list) else []
    for family in FAMILIES.values():
        if any(name in family.architectures for name in names):
            return family
    known = ", ".join(name for family in FAMILIES.values() for name in family.architectures)
    found = ", ".join(names) or "no architectures key"
    raise InputError(f"{where}: a model of one of these architectures was expected: {known}; found {found}")


def _ropes(read: _Document, family: Family, where: str) -> tuple[_Rope, float]:
    """Return the global layers' rotary parameters and the local layers' base."""
    default_base = 1_000_000.0 if family.local_rope_base else 10_000.0
    given = dict(read.rope_parameters or read.rope_scaling or {})
    local = read.rope_local_base_freq
    nested, nested_local = given.get("full_attention"), given.get("sliding_attention")
    if isinstance(nested, dict):
        given = dict(nested)
        if isinstance(nested_local, dict):
            local = _rope(nested_local, where).rope_theta
    given.setdefault("rope_theta", read.rope_theta or default_base)
    if "type" in given:  # the name before transformers 4.43
        given.setdefault("rope_type", given["type"])
    return _rope(given, where), local


def _rope(given: _Numbers, where: str) -> _Rope:
    try:
        return msgspec.convert(given, _Rope)
    except msgspec.ValidationError as error:
        raise InputError(f"{where}: rope parameters: {error}") from error


def _divisors(rope: _Rope, head_width: int, where: str) -> tuple[float, ...]:
    """Return what each frequency is divided by; the rule for `llama3` is Llama 3.1's own."""
    if rope.rope_type == "default":
        return ()
    if rope.rope_type == "linear":
        return (rope.factor,) * (head_width // 2)
    if rope.rope_type != "llama3":
        raise InputError(
            f"{where}: rope scaling of type default, linear or llama3 was expected; {rope.rope_type!r} found"
        )
    divisors = []
    for index in range(head_width // 2):
        wavelength = 2 * math.pi * rope.rope_theta ** (2 * index / head_width)
        turns = rope.original_max_position_embeddings / wavelength
        smooth = (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor)
        smooth = min(max(smooth, 0.0), 1.0)
        divisors.append(1.0 / ((1.0 - smooth) / rope.factor + smooth))
    return tuple(divisors)


def _local_layers(read: _Document, family: Family) -> tuple[int, ...]:
    if not read.sliding_window or read.use_sliding_window is False:
        return ()
    if read.layer_types:
        return tuple(index for index, kind in enumerate(read.layer_types) if kind == "sliding_attention")
    every = read.sliding_window_pattern or family.global_every
    return tuple(index for index in range(read.num_hidden_layers) if every and (index + 1) % every)
