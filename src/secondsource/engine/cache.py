"""The slotted key/value cache: a pytree that every step is given, donated, and gives back."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from secondsource.engine.config import ModelConfig

CacheFormat = Literal["plain", "int8"]  # plain: as activations are
Array = Any  # jax.Array or jax.ShapeDtypeStruct, or a sharding
LARGEST = 127
_TINY = 1e-30  # so that a token of zeros divides by something


class QuantizedTokens(NamedTuple):
    """Keys or values in 8 bits: a token's number is its value times its head's `largest` / 127."""

    values: Array  # int8 [slots, kv_heads, context_tokens, head_width]
    largest: Array  # float32 [kv_heads, slots, context_tokens]: a chip that has one head lays it out without a gap


Tokens = Array | QuantizedTokens


class Cache(NamedTuple):
    """Keys and values of every layer, each [slots, kv_heads, context_tokens, head_width], plain or in 8 bits."""

    keys: tuple[Tokens, ...]
    values: tuple[Tokens, ...]

    @property
    def context_tokens(self) -> int:
        """The most tokens that a slot holds."""
        first = self.keys[0]
        tokens: int = (first.values if isinstance(first, QuantizedTokens) else first).shape[2]
        return tokens


def cache_shape(config: ModelConfig, slots: int, context_tokens: int) -> tuple[int, int, int, int]:
    """Return the shape of one layer's keys, and of its values."""
    return slots, config.kv_heads, context_tokens, config.head_width


def empty_cache(
    config: ModelConfig, slots: int, context_tokens: int, dtype: jnp.dtype, form: CacheFormat = "plain"
) -> Cache:
    """Return a cache of zeros beside activations of `dtype`. A slot is freed by nothing: a prefill from 0 does."""
    shape = cache_shape(config, slots, context_tokens)

    def zeros() -> Tokens:
        if form == "plain":
            return jnp.zeros(shape, dtype)
        return QuantizedTokens(jnp.zeros(shape, jnp.int8), jnp.zeros((shape[1], shape[0], shape[2]), jnp.float32))

    return Cache(tuple(zeros() for _ in range(config.layers)), tuple(zeros() for _ in range(config.layers)))


def write(held: Tokens, new: jax.Array, slots: jax.Array | None, written_at: jax.Array) -> Tokens:
    """Return `held` with `new` [B, T, kv_heads, head_width] at the positions `written_at` [B, T] of `slots` [B].

    Slots None: row b is slot b. A position past the end is written nowhere.
    """
    rows = (jnp.arange(new.shape[0]) if slots is None else slots)[:, None, None]
    heads = jnp.arange(new.shape[2])[None, None, :]
    positions = written_at[:, :, None]
    if isinstance(held, QuantizedTokens):
        quantized = _quantized(new)
        return QuantizedTokens(
            _put(held.values, quantized.values, (rows, heads, positions)),
            _put(held.largest, quantized.largest, (heads, rows, positions)),
        )
    return _put(held, new, (rows, heads, positions))


def _quantized(new: jax.Array) -> QuantizedTokens:
    wide = new.astype(jnp.float32)
    # `jnp.max` and a bound beside it would be two operations, each with its price on a chip.
    largest = jax.lax.reduce(jnp.abs(wide), jnp.float32(_TINY), jax.lax.max, (wide.ndim - 1,))
    return QuantizedTokens(jnp.round(wide * LARGEST / largest[..., None]).astype(jnp.int8), largest)


def _put(held: Array, new: jax.Array, place: tuple[jax.Array, ...]) -> jax.Array:
    result: jax.Array = held.at[place].set(new.astype(held.dtype), mode="drop", unique_indices=True)
    return result


def read(held: Tokens, slots: jax.Array | None, context: int) -> Tokens:
    """Return the first `context` tokens of the slots [B], in the cache's own form and order of axes."""
    if isinstance(held, QuantizedTokens):
        return QuantizedTokens(_slice(held.values, slots, context, 0), _slice(held.largest, slots, context, 1))
    return _slice(held, slots, context, 0)


def _slice(array: jax.Array, slots: jax.Array | None, context: int, slot_axis: int) -> jax.Array:
    if slots is None:
        return jax.lax.slice_in_dim(array, 0, context, axis=2)

    size = [1 if axis == slot_axis else length for axis, length in enumerate(array.shape)]
    size[2] = context

    def of_slot(slot: jax.Array) -> jax.Array:
        starts = [slot if axis == slot_axis else 0 for axis in range(array.ndim)]
        return jax.lax.dynamic_slice(array, starts, size).squeeze(slot_axis)

    return jax.vmap(of_slot, out_axes=slot_axis)(slots)
