"""Products with a weight, whatever form the weight has."""

import jax
import jax.numpy as jnp

from secondsource.engine.parameters import Matrix, Parameters, Quantized, QuantizedProduct

_LARGEST = 127
_FINER = 2 * _LARGEST  # a remainder is at most half a step: so many times finer, it fills int8 again


def contract(hidden: jax.Array, weight: Matrix, axes: int) -> jax.Array:
    """Return the product over the last `axes` axes of `hidden` and the first `axes` axes of `weight`."""
    product: jax.Array
    if isinstance(weight, QuantizedProduct):
        rows = hidden.reshape(*hidden.shape[: hidden.ndim - axes], -1)
        product = _int8_product(rows, weight.values.reshape(-1, rows.shape[-1])) * weight.scale.reshape(-1)
        product = product.reshape(*rows.shape[:-1], *weight.scale.shape)
    else:
        values = weight.values if isinstance(weight, Quantized) else weight
        summed = (tuple(range(hidden.ndim - axes, hidden.ndim)), tuple(range(axes)))
        # Asked for in float32, the parts that chips sum between them would cross the links in float32: a chip sums
        # its own part in float32 whatever it is asked for.
        product = jax.lax.dot_general(
            hidden, values.astype(hidden.dtype), (summed, ((), ())), preferred_element_type=hidden.dtype
        )
        if isinstance(weight, Quantized):
            product = product * weight.scale.astype(jnp.float32)
    result: jax.Array = product.astype(hidden.dtype)
    return result


def look_up(embedding: Matrix, tokens: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """Return the embedding's rows of these tokens, [..., width]."""
    if not isinstance(embedding, Quantized | QuantizedProduct):
        plain: jax.Array = embedding[tokens].astype(dtype)
        return plain
    scaled: jax.Array = embedding.values[tokens].astype(dtype) * embedding.scale[tokens][..., None].astype(dtype)
    return scaled


def unembed(hidden: jax.Array, parameters: Parameters) -> jax.Array:
    """Return the logits [..., vocabulary] in float32, of hidden states [..., width]."""
    weight = parameters.unembedding if parameters.unembedding is not None else parameters.embedding
    if isinstance(weight, QuantizedProduct):
        logits: jax.Array = _int8_product(hidden, weight.values) * weight.scale
        return logits
    values = weight.values if isinstance(weight, Quantized) else weight
    logits = jnp.einsum("...w,vw->...v", hidden, values.astype(hidden.dtype), preferred_element_type=jnp.float32)
    if isinstance(weight, Quantized):
        logits = logits * weight.scale.astype(jnp.float32)
    return logits


def _int8_product(rows: jax.Array, values: jax.Array) -> jax.Array:
    """Return the product of `rows` [..., N] with int8 `values` [outputs, N], in float32.

    Each row goes in as two rows of int8, a coarse one and its remainder: 15 bits in all. The second row costs
    next to nothing, and a single row would be slow: XLA:CPU has its fast int8 product for two rows and more.
    """
    flat = rows.astype(jnp.float32).reshape(-1, rows.shape[-1])
    step = jnp.maximum(jnp.max(jnp.abs(flat), axis=-1, keepdims=True), 1e-30) / _LARGEST
    steps = flat / step
    coarse = jnp.round(steps)
    pair = jnp.concatenate([coarse, jnp.round((steps - coarse) * _FINER)]).astype(jnp.int8)
    sums = jax.lax.dot_general(pair, values, (((1,), (1,)), ((), ())), preferred_element_type=jnp.int32).astype(
        jnp.float32
    )
    product: jax.Array = (sums[: len(flat)] + sums[len(flat) :] / _FINER) * step
    return product.reshape(*rows.shape[:-1], -1)
