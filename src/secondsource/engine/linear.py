"""Products with a weight, whatever form the weight has."""

import jax
import jax.numpy as jnp

from secondsource.engine.parameters import Matrix, Parameters, Quantized, QuantizedProduct

_LARGEST = 127
_FINEST = 2 * _LARGEST  # a remainder is at most half a step: so many times finer, it fills int8 again
_LANES = 32
_LARGEST_SUM = 2**31 - 1
_ROWS_FOR_A_MATRIX_PRODUCT = 9  # at eight rows a loop was still the quicker; more were not measured


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

    Each row is rounded to a coarse int8 and its remainder in finer steps. However the two are multiplied, the sums
    are the same integers: a row's product does not depend on the rows beside it.
    """
    flat = rows.astype(jnp.float32).reshape(-1, rows.shape[-1])
    width = flat.shape[-1]
    finer = max(1, min(_FINEST, _LARGEST_SUM // (_LARGEST * _LARGEST * width)))
    by_lane = _by_lane(width)
    largest = jnp.max(jnp.abs(flat).reshape(len(flat), *(by_lane or (width,))), axis=range(1, 4) if by_lane else 1)
    step = jnp.maximum(largest[:, None], 1e-30) / _LARGEST
    steps = flat / step
    coarse = jnp.round(steps)
    fine = jnp.round((steps - coarse) * finer)
    if len(flat) < _ROWS_FOR_A_MATRIX_PRODUCT and by_lane:
        sums = _summed_by_lanes(coarse * finer, fine, values, by_lane)
    else:
        sums = _multiplied_in_pairs(coarse, fine, values, finer)
    product: jax.Array = sums.astype(jnp.float32) * (step / finer)
    return product.reshape(*rows.shape[:-1], -1)


def _multiplied_in_pairs(coarse: jax.Array, fine: jax.Array, values: jax.Array, finer: int) -> jax.Array:
    """Return the sums int32 [rows, outputs] of XLA:CPU's own int8 product, which is fast for many rows."""
    pair = jnp.concatenate([coarse, fine]).astype(jnp.int8)
    sums = jax.lax.dot_general(pair, values, (((1,), (1,)), ((), ())), preferred_element_type=jnp.int32)
    return sums[: len(coarse)] * finer + sums[len(coarse) :]


def _summed_by_lanes(coarse: jax.Array, fine: jax.Array, values: jax.Array, by_lane: tuple[int, int, int]) -> jax.Array:
    """Return the same sums by a loop that XLA:CPU writes itself: for few rows far quicker than its product.

    All three turns below are there for that loop. XLA takes sums over an axis of more than 32 apart, and keeps all the
    products in memory between: so no axis is longer. Behind the barrier the lanes' own sum stays one by itself, which
    leaves inside it a loop over lanes, and that has a processor's instruction. And XLA repeats cheap operations where
    their result is used, here for each output, but never a sum: so the rounded rows are a sum of two.
    """
    first = jax.lax.broadcasted_iota(jnp.int32, (2, 1, 1), 0) == 0
    whole = jnp.sum(jnp.where(first, coarse, fine).astype(jnp.int16), axis=0, dtype=jnp.int16)
    left = whole.reshape(-1, 1, *by_lane).astype(jnp.int32)
    right = values.reshape(1, -1, *by_lane).astype(jnp.int32)
    return jnp.sum(jax.lax.optimization_barrier(jnp.sum(left * right, axis=3)), axis=(2, 3))


def _by_lane(width: int) -> tuple[int, int, int] | None:
    """Return `width` as groups of terms of 32 lanes, each at most 32; None where it is no such product."""
    terms, rest = divmod(width, _LANES)
    each = max((count for count in range(1, _LANES + 1) if terms % count == 0), default=0)
    return None if rest or not terms or terms // each > _LANES else (terms // each, each, _LANES)
