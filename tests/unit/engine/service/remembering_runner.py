"""A runner whose logits are a hash of every token in the slot: one token wrong, lost or misplaced changes them."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

VOCABULARY = 61


def logits_after(history: Sequence[int]) -> np.ndarray:
    """The logits after these tokens, however they came to be read."""
    generator = np.random.default_rng([len(history), *history])
    return generator.normal(0, 2, VOCABULARY).astype(np.float32)


class RememberingRunner:
    """Keeps what each slot holds, and refuses to be told of a place that does not follow."""

    def __init__(self, slots: int) -> None:
        self.held: list[list[int]] = [[] for _ in range(slots)]
        self.chunks: list[int] = []

    def prefill(self, slot: int, start: int, tokens: Sequence[int]) -> jax.Array:
        assert start <= len(self.held[slot]), "a gap in the slot"
        assert len(tokens) > 0
        self.chunks.append(len(tokens))
        self.held[slot] = [*self.held[slot][:start], *tokens]
        return jnp.asarray(logits_after(self.held[slot]))[None]

    def decode(self, tokens: jax.Array, positions: np.ndarray, active: np.ndarray) -> jax.Array:
        rows, read = [], np.asarray(tokens)
        for slot, held in enumerate(self.held):
            if active[slot]:
                assert positions[slot] == len(held), "not the next place"
                held.append(int(read[slot]))
            rows.append(logits_after(held) if active[slot] else np.full(VOCABULARY, np.nan, np.float32))
        return jnp.asarray(np.stack(rows))
