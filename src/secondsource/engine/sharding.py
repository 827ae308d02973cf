"""Where each array lives on a mesh: logical axis names, mapped to mesh axes in one place.

Tensor parallel by key/value heads first, and by the query heads of a group where there are more chips than
key/value heads; feed-forward and vocabulary are split over both. Slots are split over `data`.
"""

from collections.abc import Sequence
from typing import Any

import jax

from secondsource.engine.cache import Cache
from secondsource.engine.config import ModelConfig
from secondsource.engine.parameters import Parameters

DATA, KV, GROUP = "data", "kv", "group"  # the mesh's axes


def make_mesh(config: ModelConfig, devices: Sequence[Any], data: int = 1) -> jax.sharding.Mesh:
    """Return a mesh of shape [data, kv, group] over `devices`; the rest after `data` is tensor parallel.

    Raises InputError when the devices cannot be divided so: it names the numbers that would do.
    """
    raise NotImplementedError


def parameter_shardings(config: ModelConfig, mesh: jax.sharding.Mesh, parameters: Parameters) -> Parameters:
    """Return a `NamedSharding` in each array's place (`parameters` may be abstract)."""
    raise NotImplementedError


def cache_shardings(mesh: jax.sharding.Mesh, cache: Cache) -> Cache:
    """Return a `NamedSharding` in each array's place."""
    raise NotImplementedError
