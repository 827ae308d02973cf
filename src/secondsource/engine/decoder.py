"""The one decoder that every family shares: pure functions of parameters, tokens and cache."""

import jax

from secondsource.engine.cache import Cache
from secondsource.engine.config import ModelConfig
from secondsource.engine.parameters import Parameters


def prefill(
    parameters: Parameters,
    config: ModelConfig,
    tokens: jax.Array,
    starts: jax.Array,
    lengths: jax.Array,
    slots: jax.Array,
    cache: Cache,
    *,
    context: int | None = None,
    all_positions: bool = False,
) -> tuple[jax.Array, Cache]:
    """Read `tokens` [B, T] int32 into the cache and return the logits [B, V] float32 after each row's last.

    Row b holds `lengths[b]` tokens (then padding) that stand at positions `starts[b]`, `starts[b] + 1`, … of
    slot `slots[b]`; a start above 0 goes on from what that slot's cache holds (chunked prefill). A row of
    length 0 changes nothing. `context` (static) bounds the positions looked at: every start + length must be
    at most that; None is the cache's whole context. With `all_positions` the logits are [B, T, V].
    """
    raise NotImplementedError


def decode_step(
    parameters: Parameters,
    config: ModelConfig,
    tokens: jax.Array,
    positions: jax.Array,
    active: jax.Array,
    cache: Cache,
    *,
    context: int | None = None,
) -> tuple[jax.Array, Cache]:
    """Read one token in each slot and return the logits [S, V] float32 for the next one.

    `tokens` [S] int32 stand at `positions` [S]; where `active` [S] bool is false, the slot's cache is left
    alone and its logits mean nothing. `context` (static) as in `prefill`: every active position is below it.
    """
    raise NotImplementedError
