"""Weights in 8 bits: symmetric, one scale for each output."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_LARGEST = 127


def quantized(values: "np.ndarray[Any, np.dtype[np.float32]]", summed: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """Return `values` as int8, the largest of each output at 127, and the scales.

    `summed` are the axes that a product sums over; each of the others is an output.
    """
    scale = np.abs(values).max(axis=summed, keepdims=True) / _LARGEST
    scale = np.where(scale > 0, scale, 1.0)
    whole = np.rint(values / scale).astype(np.int8)
    return jnp.asarray(np.ascontiguousarray(whole)), jnp.asarray(scale.squeeze(summed), jnp.float32)


def summed_last(
    values: "np.ndarray[Any, np.dtype[np.float32]]", summed: tuple[int, ...]
) -> "tuple[np.ndarray[Any, np.dtype[np.float32]], tuple[int, ...]]":
    """Return `values` with the axes that a product sums over as the last ones, and where they are now."""
    last = tuple(range(-len(summed), 0))
    return np.moveaxis(values, summed, last), last
