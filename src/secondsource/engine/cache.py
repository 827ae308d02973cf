"""The slotted key/value cache: a pytree that every step is given, donated, and gives back."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from secondsource.engine.config import ModelConfig

Array = Any  # jax.Array or jax.ShapeDtypeStruct


class Cache(NamedTuple):
    """Keys and values of every layer, each [slots, kv_heads, context_tokens, head_width]."""

    keys: tuple[Array, ...]
    values: tuple[Array, ...]


def cache_shape(config: ModelConfig, slots: int, context_tokens: int) -> tuple[int, int, int, int]:
    """Return the shape of one layer's keys, and of its values."""
    return slots, config.kv_heads, context_tokens, config.head_width


def empty_cache(config: ModelConfig, slots: int, context_tokens: int, dtype: jnp.dtype) -> Cache:
    """Return a cache of zeros. A slot is freed by nothing: the next prefill from 0 overwrites it."""
    shape = cache_shape(config, slots, context_tokens)
    keys = tuple(jnp.zeros(shape, dtype) for _ in range(config.layers))
    values = tuple(jnp.zeros(shape, dtype) for _ in range(config.layers))
    return Cache(keys, values)
