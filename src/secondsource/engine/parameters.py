"""The model's weights as a pytree, and what each axis of each array is called.

The query weights keep their key/value head and their place in its group as two axes, so that a mesh
with more chips than key/value heads can split both and copy the keys.
"""

from typing import Any, NamedTuple

Array = Any  # jax.Array, jax.ShapeDtypeStruct, or a sharding: a pytree of parameters may hold any of them


class Quantized(NamedTuple):
    """A weight of int8 `values` with one `scale` for each of its outputs."""

    values: Array
    scale: Array


class QuantizedProduct(NamedTuple):
    """The same, where the product itself is to be taken in int8: what XLA:CPU is fast at.

    The axes that a product sums over are the last ones here: each output's weights lie side by side.
    """

    values: Array
    scale: Array


Matrix = Array | Quantized | QuantizedProduct


class Layer(NamedTuple):
    """One layer. Axes by name: see `sharding.py`. A norm that the family has not is None."""

    attention_norm: Array  # [width]
    query: Matrix  # [width, kv_heads, group, head_width]
    key_value: Matrix  # [width, 2, kv_heads, head_width]
    query_norm: Array | None  # [head_width]
    key_norm: Array | None  # [head_width]
    output: Matrix  # [kv_heads, group, head_width, width]
    attention_post_norm: Array | None  # [width]
    feed_forward_norm: Array  # [width]
    gate_up: Matrix  # [width, 2, feed_forward_width]
    down: Matrix  # [feed_forward_width, width]
    feed_forward_post_norm: Array | None  # [width]


class Parameters(NamedTuple):
    """A whole model. Norm weights are factors (Gemma's 1 + w is already added)."""

    embedding: Matrix  # [vocabulary, width]
    layers: tuple[Layer, ...]
    final_norm: Array  # [width]; its dtype is the dtype that activations have
    unembedding: Matrix | None  # [vocabulary, width]; None: tied to the embedding


# How many leading axes of a weight are summed over; the rest are its outputs, which have the scales.
SUMMED_AXES = {"query": 1, "key_value": 1, "output": 3, "gate_up": 1, "down": 1}
