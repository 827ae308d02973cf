"""Products with a weight, whatever form the weight has."""

import math

import jax
import jax.numpy as jnp

from secondsource.engine.parameters import Matrix, Parameters, Quantized, QuantizedProduct

_LARGEST = 127
_FINER = 2 * _LARGEST  # a remainder is at most half a step: so many times finer, it fills int8 again


def contract(hidden: jax.Array, weight: Matrix, axes: int) -> jax.Array:
    """Return the product over the last `axes` axes of `hidden` and the first `axes` axes of `weight`."""
    if isinstance(weight, QuantizedProduct):
        summed = math.prod(weight.values.shape[:axes])
        rows = hidden.reshape(*hidden.shape[: hidden.ndim - axes], summed)
        product: jax.Array = _int8_product(rows, weight.values.reshape(summed, -1), 0) * weight.scale.reshape(-1)
        return product.reshape(*rows.shape[:-1], *weight.values.shape[axes:]).astype(hidden.dtype)
    values = weight.values if isinstance(weight, Quantized) else weight
    product = jax.lax.dot_general(
        hidden,
        values.astype(hidden.dtype),
        ((tuple(range(hidden.ndim - axes, hidden.ndim)), tuple(range(axes))), ((), ())),
        preferred_element_type=jnp.float32,
    )
    if isinstance(weight, Quantized):
        product = product * weight.scale.astype(jnp.float32).reshape(values.shape[axes:])
    return product.astype(hidden.dtype)


def look_up(embedding: Matrix, tokens: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """Return the embedding's rows of these tokens, [..., width]."""
    if not isinstance(embedding, Quantized | QuantizedProduct):
        plain: jax.Array = embedding[tokens].astype(dtype)
        return plain
    rows: jax.Array = embedding.values[tokens].astype(dtype)
    return rows * embedding.scale[tokens][..., None].astype(dtype)


def unembed(hidden: jax.Array, parameters: Parameters) -> jax.Array:
    """Return the logits [..., vocabulary] in float32, of hidden states [..., width]."""
    weight = parameters.unembedding if parameters.unembedding is not None else parameters.embedding
    if isinstance(weight, QuantizedProduct):
        logits: jax.Array = _int8_product(hidden, weight.values, 1) * weight.scale
        return logits
    values = weight.values if isinstance(weight, Quantized) else weight
    logits = jnp.einsum("...w,vw->...v", hidden, values.astype(hidden.dtype), preferred_element_type=jnp.float32)
    if isinstance(weight, Quantized):
        logits = logits * weight.scale.astype(jnp.float32)
    return logits


def _int8_product(rows: jax.Array, values: jax.Array, summed: int) -> jax.Array:
    """Return the product of `rows` [..., N] with int8 `values` over their axis `summed`, in float32.

    Each row goes in as two rows of int8, a coarse one and its remainder: 15 bits in all. The second row costs
    next to nothing, and a single row would be slow: XLA:CPU has its fast int8 product for two rows and more.
    """
    flat = rows.astype(jnp.float32).reshape(-1, rows.shape[-1])
    step = jnp.maximum(jnp.max(jnp.abs(flat), axis=-1, keepdims=True), 1e-30) / _LARGEST
    steps = flat / step
    coarse = jnp.round(steps)
    pair = jnp.concatenate([coarse, jnp.round((steps - coarse) * _FINER)]).astype(jnp.int8)
    sums = jax.lax.dot_general(pair, values, (((1,), (summed,)), ((), ())), preferred_element_type=jnp.int32).astype(
        jnp.float32
    )
    product: jax.Array = (sums[: len(flat)] + sums[len(flat) :] / _FINER) * step
    return product.reshape(*rows.shape[:-1], -1)
