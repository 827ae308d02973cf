"""Products with a weight, whatever form the weight has."""

import jax
import jax.numpy as jnp

from secondsource.engine.parameters import Parameters, Quantized


def contract(hidden: jax.Array, weight: jax.Array | Quantized, axes: int) -> jax.Array:
    """Return the product over the last `axes` axes of `hidden` and the first `axes` axes of `weight`."""
    values = weight.values if isinstance(weight, Quantized) else weight
    outputs = values.shape[axes:]
    product = jax.lax.dot_general(
        hidden,
        values.astype(hidden.dtype),
        ((tuple(range(hidden.ndim - axes, hidden.ndim)), tuple(range(axes))), ((), ())),
        preferred_element_type=jnp.float32,
    )
    if isinstance(weight, Quantized):
        product = product * weight.scale.astype(jnp.float32).reshape(outputs)
    return product.astype(hidden.dtype)


def look_up(embedding: jax.Array | Quantized, tokens: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """Return the embedding's rows of these tokens, [..., width]."""
    rows: jax.Array = (embedding.values if isinstance(embedding, Quantized) else embedding)[tokens]
    rows = rows.astype(dtype)
    return rows * embedding.scale[tokens][..., None].astype(dtype) if isinstance(embedding, Quantized) else rows


def unembed(hidden: jax.Array, parameters: Parameters) -> jax.Array:
    """Return the logits [..., vocabulary] in float32, of hidden states [..., width]."""
    weight = parameters.unembedding if parameters.unembedding is not None else parameters.embedding
    values = weight.values if isinstance(weight, Quantized) else weight
    logits = jnp.einsum("...w,vw->...v", hidden, values.astype(hidden.dtype), preferred_element_type=jnp.float32)
    if isinstance(weight, Quantized):
        logits = logits * weight.scale.astype(jnp.float32)
    return logits
