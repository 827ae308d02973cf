"""The compiled functions over one model and one cache: token ids in, logits out, in bucketed shapes."""

import functools
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from secondsource.engine.cache import Cache, CacheFormat, empty_cache
from secondsource.engine.config import ModelConfig
from secondsource.engine.decoder import decode_step, prefill
from secondsource.engine.parameters import Parameters
from secondsource.engine.sharding import cache_shardings, parameter_shardings

_ALL_SLOTS, _ONE_SLOT = -1, 0  # in a prefill length's place: a decode step
# XLA takes 256 bits, half of what some processors have; one that has no more takes what it has.
_CPU_OPTIONS: dict[str, str | bool] = {"xla_cpu_prefer_vector_width": "512"}


class RunnerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How much is served at once, and in which shapes. Buckets ascend; the last context bucket is the cache's."""

    slots: int = 8
    context_buckets: tuple[int, ...] = (256, 1024, 2048)
    prefill_buckets: tuple[int, ...] = (16, 64, 256)
    cache: CacheFormat = "plain"


class Runner:
    """One model on one mesh with one cache; not thread-safe: one thread steps it.

    `compilations` counts what was compiled so far; after `warm_up` it does not grow.
    """

    def __init__(
        self,
        config: ModelConfig,
        parameters: Parameters,
        options: RunnerOptions,
        mesh: jax.sharding.Mesh | None = None,
    ) -> None:
        """Place the parameters and an empty cache; compiles nothing yet."""
        self.compilations = 0
        self.options = options
        self._config = config
        dtype = parameters.final_norm.dtype
        cache = empty_cache(config, options.slots, self.context_tokens, dtype, options.cache)
        self._output_shardings = None
        if mesh is not None:
            self._output_shardings = (NamedSharding(mesh, PartitionSpec()), cache_shardings(mesh, cache))
            parameters = jax.device_put(parameters, parameter_shardings(mesh, parameters))
            cache = jax.device_put(cache, self._output_shardings[1])
        self.parameters, self._cache = parameters, cache
        # float32 means float32 on a chip whose matrix unit would round its inputs, too.
        self._precision = "highest" if dtype == jnp.float32 else "default"
        self._compiled: dict[tuple[int, int], jax.stages.Compiled] = {}

    @property
    def largest_chunk(self) -> int:
        """The most tokens that one `prefill` takes."""
        return self.options.prefill_buckets[-1]

    @property
    def context_tokens(self) -> int:
        """The most tokens that a slot holds."""
        return self.options.context_buckets[-1]

    def warm_up(self, on_progress: Callable[[int, int], None] | None = None) -> None:
        """Compile every shape that serving needs, telling how many of how many are done."""
        shapes = [
            (length, context)
            for context in self.options.context_buckets
            for length in (_ALL_SLOTS, _ONE_SLOT, *self.options.prefill_buckets)
            if length <= context
        ]
        for done, (length, context) in enumerate(shapes, start=1):
            self._function(length, context)
            if on_progress is not None:
                on_progress(done, len(shapes))

    def prefill(self, slot: int, start: int, tokens: Sequence[int]) -> jax.Array:
        """Read 1 to `largest_chunk` tokens at positions `start`, … of `slot`; logits [1, V] float32 after the last.

        `start` above 0 goes on from what the slot holds: the caller has prefilled or decoded all before it.
        """
        length = len(tokens)
        bucket = _bucket(self.options.prefill_buckets, length)
        padded = np.zeros((1, bucket), np.int32)
        padded[0, :length] = tokens
        context = _bucket(self.options.context_buckets, max(start + length, bucket))
        one = functools.partial(np.array, dtype=np.int32)
        return self._step(bucket, context, padded, one([start]), one([length]), one([slot]))

    def decode(self, tokens: jax.Array | np.ndarray, positions: np.ndarray, active: np.ndarray) -> jax.Array:
        """Read one token in each active slot (arrays [slots]: int32, int32, bool); logits [slots, V] float32.

        Where one slot alone is active, it alone is computed: logits [1, V]. Tokens may still be under way.
        """
        furthest = int(positions[active].max(initial=0)) + 1
        context = _bucket(self.options.context_buckets, furthest)
        if active.sum() == 1:
            slot = np.flatnonzero(active).astype(np.int32)
            return self._step(_ONE_SLOT, context, tokens, positions[slot], slot)
        return self._step(_ALL_SLOTS, context, tokens, positions, active)

    def _step(self, length: int, context: int, *inputs: Any) -> jax.Array:
        logits: jax.Array
        logits, self._cache = self._function(length, context)(self.parameters, *inputs, self._cache)
        return logits

    def _function(self, length: int, context: int) -> Any:
        """Return the compiled prefill of `length` tokens, or one of the two decode steps."""
        found = self._compiled.get((length, context))
        if found is None:
            found = self._compiled[(length, context)] = self._compile(length, context)
        return found

    def _compile(self, length: int, context: int) -> Any:
        self.compilations += 1
        slots = self.options.slots
        one, every = jax.ShapeDtypeStruct((1,), jnp.int32), jax.ShapeDtypeStruct((slots,), jnp.int32)
        inputs: tuple[Any, ...]
        if length == _ALL_SLOTS:
            step = functools.partial(_decode, self._config, context)
            inputs = (every, every, jax.ShapeDtypeStruct((slots,), jnp.bool_))
        elif length == _ONE_SLOT:
            step = functools.partial(_decode_one, self._config, context)
            inputs = (every, one, one)
        else:
            step = functools.partial(_prefill, self._config, context)
            inputs = (jax.ShapeDtypeStruct((1, length), jnp.int32), one, one, one)
        compiled = jax.jit(step, donate_argnames="cache", out_shardings=self._output_shardings)
        with jax.default_matmul_precision(self._precision):
            lowered = compiled.lower(self.parameters, *inputs, self._cache)
            return lowered.compile(_CPU_OPTIONS if jax.default_backend() == "cpu" else None)


def _prefill(
    config: ModelConfig,
    context: int,
    parameters: Parameters,
    tokens: jax.Array,
    starts: jax.Array,
    lengths: jax.Array,
    slots: jax.Array,
    cache: Cache,
) -> tuple[jax.Array, Cache]:
    return prefill(parameters, config, tokens, starts, lengths, slots, cache, context=context)


def _decode(
    config: ModelConfig,
    context: int,
    parameters: Parameters,
    tokens: jax.Array,
    positions: jax.Array,
    active: jax.Array,
    cache: Cache,
) -> tuple[jax.Array, Cache]:
    return decode_step(parameters, config, tokens, positions, active, cache, context=context)


def _decode_one(
    config: ModelConfig,
    context: int,
    parameters: Parameters,
    tokens: jax.Array,
    positions: jax.Array,
    slots: jax.Array,
    cache: Cache,
) -> tuple[jax.Array, Cache]:
    one, lengths = tokens[slots][:, None], jnp.ones_like(slots)
    return prefill(parameters, config, one, positions, lengths, slots, cache, context=context)


def _bucket(buckets: Sequence[int], wanted: int) -> int:
    """Return the smallest bucket that holds `wanted`."""
    place = bisect_left(buckets, wanted)
    if place == len(buckets):
        raise ValueError(f"at most {buckets[-1]} were expected, {wanted} asked for")
    return buckets[place]
