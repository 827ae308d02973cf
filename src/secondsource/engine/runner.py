"""The compiled functions over one model and one cache: token ids in, logits out, in bucketed shapes."""

from collections.abc import Callable, Sequence

import jax
import msgspec
import numpy as np

from secondsource.engine.config import ModelConfig
from secondsource.engine.parameters import Parameters


class RunnerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How much is served at once, and in which shapes. Buckets ascend; the last context bucket is the cache's."""

    slots: int = 8
    context_buckets: tuple[int, ...] = (256, 1024, 2048)
    prefill_buckets: tuple[int, ...] = (16, 64, 256)


class Runner:
    """One model on one mesh with one cache; not thread-safe: one thread steps it.

    `compilations` counts what was compiled so far; after `warm_up` it must not grow.
    """

    compilations: int

    def __init__(
        self,
        config: ModelConfig,
        parameters: Parameters,
        options: RunnerOptions,
        mesh: jax.sharding.Mesh | None = None,
    ) -> None:
        """Place the parameters and an empty cache; compiles nothing yet."""
        raise NotImplementedError

    @property
    def largest_chunk(self) -> int:
        """The most tokens that one `prefill` takes."""
        raise NotImplementedError

    @property
    def context_tokens(self) -> int:
        """The most tokens that a slot holds."""
        raise NotImplementedError

    def warm_up(self, on_progress: Callable[[int, int], None] | None = None) -> None:
        """Compile every shape that serving needs, telling how many of how many are done."""
        raise NotImplementedError

    def prefill(self, slot: int, start: int, tokens: Sequence[int]) -> jax.Array:
        """Read 1 to `largest_chunk` tokens at positions `start`, … of `slot`; logits [1, V] float32 after the last.

        `start` above 0 goes on from what the slot holds: the caller has prefilled or decoded all before it.
        """
        raise NotImplementedError

    def decode(self, tokens: np.ndarray, positions: np.ndarray, active: np.ndarray) -> jax.Array:
        """Read one token in each active slot (arrays [slots]: int32, int32, bool); logits [slots, V] float32."""
        raise NotImplementedError
