"""Where each array lives on a mesh: logical axis names, mapped to mesh axes in one place.

Tensor parallel by key/value heads first, and by the query heads of a group where there are more chips than
key/value heads; feed-forward and vocabulary are split over both. Slots are split over `data`.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from secondsource.core.errors import InputError
from secondsource.engine.cache import Cache, QuantizedTokens, Tokens
from secondsource.engine.config import ModelConfig
from secondsource.engine.parameters import SUMMED_AXES, Layer, Parameters, Quantized, QuantizedProduct

DATA, KV, GROUP = "data", "kv", "group"  # the mesh's axes

_MESH_AXES: dict[str, str | tuple[str, ...] | None] = {
    "slots": DATA,
    "kv_heads": KV,
    "group": GROUP,
    "feed_forward": (KV, GROUP),
    "vocabulary": (KV, GROUP),
    "width": None,
    "head_width": None,
    "context": None,
    "pair": None,  # key and value, gate and up
}

_CACHE_AXES = ("slots", "kv_heads", "context", "head_width")
_SCALE_AXES = ("kv_heads", "slots", "context")
_LAYER_AXES = Layer(
    attention_norm=("width",),
    query=("width", "kv_heads", "group", "head_width"),
    key_value=("width", "pair", "kv_heads", "head_width"),
    query_norm=("head_width",),
    key_norm=("head_width",),
    output=("kv_heads", "group", "head_width", "width"),
    attention_post_norm=("width",),
    feed_forward_norm=("width",),
    gate_up=("width", "pair", "feed_forward"),
    down=("feed_forward", "width"),
    feed_forward_post_norm=("width",),
)


def make_mesh(config: ModelConfig, devices: Sequence[Any], data: int = 1) -> Mesh:
    """Return a mesh of shape [data, kv, group] over `devices`; the rest after `data` is tensor parallel.

    Raises InputError when the devices cannot be divided so: it names the numbers that would do.
    """
    tensor, rest = divmod(len(devices), data)
    kv = math.gcd(tensor, config.kv_heads)
    group = tensor // kv if tensor else 0
    divides = tensor > 0 and config.group % group == 0 and config.feed_forward_width % tensor == 0
    if rest or not divides or config.vocabulary % tensor:
        raise InputError(
            f"{len(devices)} devices, {data} ways data parallel: the model has {config.kv_heads} key/value heads of "
            f"{config.group} query heads each; tensor parallel over one of {tensor_parallel_ways(config)} was expected"
        )
    return Mesh(np.array(devices).reshape(data, kv, group), (DATA, KV, GROUP))


def tensor_parallel_ways(config: ModelConfig) -> list[int]:
    """Return the numbers of devices that one copy of the model can be split over."""
    kv = [ways for ways in range(1, config.kv_heads + 1) if config.kv_heads % ways == 0]
    group = [ways for ways in range(1, config.group + 1) if config.group % ways == 0]
    ways = {one * other for one in kv for other in group if math.gcd(one * other, config.kv_heads) == one}
    return sorted(way for way in ways if not config.feed_forward_width % way and not config.vocabulary % way)


def parameter_shardings(mesh: Mesh, parameters: Parameters) -> Parameters:
    """Return a `NamedSharding` in each array's place (`parameters` may be abstract)."""
    layers = tuple(_layer_shardings(mesh, layer) for layer in parameters.layers)
    table = ("vocabulary", "width")
    return Parameters(
        embedding=_table_sharding(mesh, parameters.embedding, table),
        layers=layers,
        final_norm=_sharding(mesh, ("width",)),
        unembedding=None if parameters.unembedding is None else _table_sharding(mesh, parameters.unembedding, table),
    )


def cache_shardings(mesh: Mesh, cache: Cache) -> Cache:
    """Return a `NamedSharding` in each array's place."""
    return Cache(
        tuple(_tokens_sharding(mesh, each) for each in cache.keys),
        tuple(_tokens_sharding(mesh, each) for each in cache.values),
    )


def _tokens_sharding(mesh: Mesh, held: Tokens) -> Tokens:
    values = _sharding(mesh, _CACHE_AXES)
    return QuantizedTokens(values, _sharding(mesh, _SCALE_AXES)) if isinstance(held, QuantizedTokens) else values


def _layer_shardings(mesh: Mesh, layer: Layer) -> Layer:
    placed: dict[str, Any] = {}
    for name, weight, axes in zip(Layer._fields, layer, _LAYER_AXES, strict=True):
        if isinstance(weight, Quantized | QuantizedProduct):
            summed, outputs = axes[: SUMMED_AXES[name]], axes[SUMMED_AXES[name] :]
            order = (*outputs, *summed) if isinstance(weight, QuantizedProduct) else axes
            placed[name] = type(weight)(_sharding(mesh, order), _sharding(mesh, outputs))
        else:
            placed[name] = None if weight is None else _sharding(mesh, axes)
    return Layer(**placed)


def _table_sharding(mesh: Mesh, table: Any, axes: tuple[str, str]) -> Any:
    if isinstance(table, Quantized | QuantizedProduct):
        return type(table)(_sharding(mesh, axes), _sharding(mesh, axes[:1]))
    return _sharding(mesh, axes)


def _sharding(mesh: Mesh, axes: Sequence[str]) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec(*(_MESH_AXES[axis] for axis in axes)))
