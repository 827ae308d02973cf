"""Rotary position embeddings (Su et al., arXiv:2104.09864), the halves of a head turned against each other."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np


def rotation(
    positions: jax.Array, head_width: int, base: float, divisors: Sequence[float]
) -> tuple[jax.Array, jax.Array]:
    """Return cosine and sine, float32 [..., head_width / 2], of each position's angle at each frequency.

    Frequency i is base ** (-2 i / head_width), divided by `divisors[i]` where there are any.
    """
    frequencies = base ** (-np.arange(0, head_width, 2, dtype=np.float64) / head_width)
    if divisors:
        frequencies = frequencies / np.asarray(divisors, np.float64)
    angles = positions[..., None].astype(jnp.float32) * jnp.asarray(frequencies, jnp.float32)
    return jnp.cos(angles), jnp.sin(angles)


def rotate(heads: jax.Array, turn: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Return `heads` [B, T, ..., head_width], turned by the angles [B, T, head_width / 2]."""
    between = (1,) * (heads.ndim - 3)
    cosine, sine = (part.reshape(*part.shape[:2], *between, part.shape[-1]) for part in turn)
    wide = heads.astype(jnp.float32)
    first, second = jnp.split(wide, 2, axis=-1)
    # Turned whole, not by halves: one product and one sum over all the lanes that a chip has for a head.
    turned = wide * jnp.concatenate([cosine, cosine], -1) + jnp.concatenate([-second * sine, first * sine], -1)
    return turned.astype(heads.dtype)
