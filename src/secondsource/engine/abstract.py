"""A model's parameters and cache as shapes alone: what compiling for a chip needs, without any weight."""

from typing import Literal

from secondsource.engine.cache import Cache
from secondsource.engine.config import ModelConfig
from secondsource.engine.parameters import Parameters

WeightFormat = Literal["float32", "bf16", "int8"]  # int8: the matrices; norms and activations are bf16


def abstract_parameters(config: ModelConfig, weights: WeightFormat) -> Parameters:
    """Return the parameters with a `jax.ShapeDtypeStruct` in each array's place."""
    raise NotImplementedError


def abstract_cache(config: ModelConfig, slots: int, context_tokens: int, weights: WeightFormat) -> Cache:
    """Return the cache with a `jax.ShapeDtypeStruct` in each array's place; bf16 unless weights are float32."""
    raise NotImplementedError
