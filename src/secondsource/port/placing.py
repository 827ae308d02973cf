"""How a model is spread over devices, and what that makes each of them hold: arithmetic, before any compile."""

import math

import jax
import msgspec

from secondsource.core.errors import InputError
from secondsource.engine.abstract import abstract_cache, abstract_parameters
from secondsource.engine.cache import CacheFormat
from secondsource.engine.config import ModelConfig
from secondsource.engine.sharding import cache_shardings, make_mesh, parameter_shardings, tensor_parallel_ways
from secondsource.port.job import CacheDtype, Weights


class Placing(msgspec.Struct, frozen=True, kw_only=True):
    """Copies of the model, and how many devices hold one copy."""

    data_parallel: int
    tensor_parallel: int
    cache_copies: int  # of each key and value, where more devices than key/value heads hold a copy of the model


def choose_placing(config: ModelConfig, devices: int, sequences: int, data_parallel: int | None = None) -> Placing:
    """Return the widest tensor parallel that the model's heads and widths allow, the rest data parallel.

    Raises InputError where the model or the batch cannot be divided so.
    """
    ways = [way for way in tensor_parallel_ways(config) if devices % way == 0]
    if data_parallel is not None:
        ways = [way for way in ways if devices // way == data_parallel]
    ways = [way for way in ways if sequences % (devices // way) == 0]
    if not ways:
        raise InputError(
            f"{devices} devices and a batch of {sequences}: one copy of the model can be split over "
            f"{tensor_parallel_ways(config)} devices, and the copies must divide the batch; change --chips or --batch"
        )
    tensor = max(ways)
    return Placing(
        data_parallel=devices // tensor,
        tensor_parallel=tensor,
        cache_copies=tensor // math.gcd(tensor, config.kv_heads),
    )


def stored_bytes(
    config: ModelConfig,
    weights: Weights,
    sequences: int,
    context_tokens: int,
    placing: Placing,
    cache_dtype: CacheDtype = "bf16",
) -> tuple[int, int]:
    """Return one device's bytes of weights and of cache, without the padding that a compiler adds."""
    count = placing.data_parallel * placing.tensor_parallel
    mesh = make_mesh(config, range(count), placing.data_parallel)  # numbers stand for devices: only sizes count
    parameters = abstract_parameters(config, weights)
    cache = abstract_cache(config, sequences, context_tokens, weights, cache_format(cache_dtype))
    return (
        _bytes(parameters, parameter_shardings(mesh, parameters)),
        _bytes(cache, cache_shardings(mesh, cache)),
    )


def cache_format(dtype: CacheDtype) -> CacheFormat:
    """Return the engine's name of a cache: bf16 is what activations are."""
    return "int8" if dtype == "int8" else "plain"


def _bytes(arrays: object, shardings: object) -> int:
    pairs = zip(jax.tree.leaves(arrays), jax.tree.leaves(shardings), strict=True)
    return sum(math.prod(sharding.shard_shape(array.shape)) * array.dtype.itemsize for array, sharding in pairs)
