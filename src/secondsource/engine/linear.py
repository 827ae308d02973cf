"""Products with a weight, whatever form the weight has."""

import jax
import jax.numpy as jnp

from secondsource.engine.parameters import Matrix, Parameters, Quantized, QuantizedProduct

_LARGEST = 127
_FINEST = 2 * _LARGEST  # a remainder is at most half a step: so many times finer, it fills int8 again
_LARGEST_INT16 = 2**15 - 1
_LARGEST_SUM = 2**31 - 1
_ROWS_FOR_A_MATRIX_PRODUCT = 4


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
    step = jnp.maximum(_row_maximum(jnp.abs(flat)), 1e-30) / _LARGEST
    steps = flat / step
    coarse = jnp.round(steps)
    fine = jnp.round((steps - coarse) * finer)
    lanes = _lanes(width)
    if len(flat) < _ROWS_FOR_A_MATRIX_PRODUCT and lanes:
        sums = _summed_by_lanes(coarse * finer + fine, step, values, lanes)
    else:
        sums = _multiplied_in_pairs(coarse, fine, values, finer)
    product: jax.Array = sums.astype(jnp.float32) * (step / finer)
    return product.reshape(*rows.shape[:-1], -1)


def _multiplied_in_pairs(coarse: jax.Array, fine: jax.Array, values: jax.Array, finer: int) -> jax.Array:
    """Return the sums int32 [rows, outputs] of XLA:CPU's own int8 product, which is fast for many rows."""
    pair = jnp.concatenate([coarse, fine]).astype(jnp.int8)
    sums = jax.lax.dot_general(pair, values, (((1,), (1,)), ((), ())), preferred_element_type=jnp.int32)
    return sums[: len(coarse)] * finer + sums[len(coarse) :]


def _summed_by_lanes(whole: jax.Array, step: jax.Array, values: jax.Array, lanes: int) -> jax.Array:
    """Return the same sums as a loop that XLA:CPU writes itself: for few rows three times as fast as its product.

    All three turns below are there for that loop. Sums of more than 32 terms XLA takes apart, and keeps all the
    products in memory between; so each lane sums few terms. Behind the barrier the lanes' own sum stays a sum of its
    own, which leaves a loop over lanes that has a processor's instruction. And XLA repeats cheap operations wherever
    their result is used, here for each of the outputs, but never a remainder: it keeps the rounded rows.
    """
    bound = jnp.where(step >= 0, jnp.int16(_LARGEST_INT16), jnp.int16(1))  # always the first; XLA must not know
    kept = jax.lax.rem(whole.astype(jnp.int16), jnp.broadcast_to(bound, whole.shape))
    by_lane = (*kept.shape[:-1], -1, lanes)
    products = values.reshape(len(values), *by_lane[-2:])[None].astype(jnp.int32) * kept.reshape(by_lane)[
        :, None
    ].astype(jnp.int32)
    return jnp.sum(jax.lax.optimization_barrier(jnp.sum(products, axis=2)), axis=-1)


def _lanes(width: int) -> int:
    """Return the lanes that `width` terms divide into, a multiple of 32, so that each sums at most 32; 0 if none."""
    return next((lanes for lanes in range(32, width + 1, 32) if width % lanes == 0 and width // lanes <= 32), 0)


def _row_maximum(rows: jax.Array) -> jax.Array:
    """Return the largest of each row, [rows, 1]; in two dimensions where that spares XLA:CPU two operations."""
    lanes = _lanes(rows.shape[-1])
    if not lanes or lanes > 32:
        return jnp.max(rows, axis=-1, keepdims=True)
    return jnp.max(rows.reshape(len(rows), -1, lanes), axis=(1, 2))[:, None]
