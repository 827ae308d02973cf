"""The one decoder that every family shares: pure functions of parameters, tokens and cache.

Layers are unrolled: a scan over layers, with the cache among what is scanned, makes XLA keep the cache
several times over. Norms, softmax and logits are float32 whatever the weights are.
"""

import jax
import jax.numpy as jnp

from secondsource.engine.cache import LARGEST, Cache, QuantizedTokens, Tokens, read, write
from secondsource.engine.config import ModelConfig
from secondsource.engine.linear import contract, look_up, unembed
from secondsource.engine.parameters import Layer, Parameters
from secondsource.engine.rotary import rotate, rotation

_FAR_BELOW = -1e30  # a masked score; finite, so that a row with nothing to look at is no NaN


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
    offsets = jnp.arange(tokens.shape[1])[None, :]
    positions = starts[:, None] + offsets
    hidden, cache = _layers(parameters, config, tokens, positions, offsets < lengths[:, None], slots, cache, context)
    if not all_positions:
        last = jnp.maximum(lengths - 1, 0)
        hidden = jnp.take_along_axis(hidden, last[:, None, None], axis=1)[:, 0]
    return _logits(parameters, config, hidden), cache


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
    one = (slice(None), None)
    hidden, cache = _layers(parameters, config, tokens[one], positions[one], active[one], None, cache, context)
    return _logits(parameters, config, hidden[:, 0]), cache


def _layers(
    parameters: Parameters,
    config: ModelConfig,
    tokens: jax.Array,  # [B, T]
    positions: jax.Array,  # [B, T]
    present: jax.Array,  # [B, T] bool: false for padding
    slots: jax.Array | None,  # [B]; None: row b is slot b
    cache: Cache,
    context: int | None,
) -> tuple[jax.Array, Cache]:
    """Return the normed last hidden state [B, T, width] and the cache with the tokens' keys and values in it."""
    whole = cache.context_tokens
    context = whole if context is None else context
    # Padding is written past the end, which a scatter drops.
    written_at = jnp.where(present, positions, whole)
    global_rotation = rotation(positions, config.head_width, config.rope_base, config.rope_divisors)
    local_rotation = rotation(positions, config.head_width, config.local_rope_base or config.rope_base, ())
    seen = _seen(positions, context, 0)
    seen_locally = _seen(positions, context, config.window_tokens)
    hidden = look_up(parameters.embedding, tokens, parameters.final_norm.dtype)
    hidden = hidden * jnp.asarray(config.embedding_scale, hidden.dtype)
    keys, values = list(cache.keys), list(cache.values)
    for index, layer in enumerate(parameters.layers):
        local = index in config.local_layers
        query, key, value = _project(layer, config, hidden, local_rotation if local else global_rotation)
        keys[index] = write(keys[index], key, slots, written_at)
        values[index] = write(values[index], value, slots, written_at)
        mixed = _attend(
            query,
            read(keys[index], slots, context),
            read(values[index], slots, context),
            seen_locally if local else seen,
            config,
        )
        mixed = contract(mixed, layer.output, 3)
        hidden = hidden + _norm_if(mixed, layer.attention_post_norm, config)
        hidden = hidden + _norm_if(_feed_forward(layer, config, hidden), layer.feed_forward_post_norm, config)
    return rms_norm(hidden, parameters.final_norm, config.norm_epsilon), Cache(tuple(keys), tuple(values))


def rms_norm(hidden: jax.Array, weight: jax.Array, epsilon: float) -> jax.Array:
    """Return `hidden` divided by its root mean square over the last axis (in float32), times `weight`."""
    wide = hidden.astype(jnp.float32)
    wide = wide * jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + epsilon)
    return wide.astype(hidden.dtype) * weight


def _norm_if(hidden: jax.Array, weight: jax.Array | None, config: ModelConfig) -> jax.Array:
    return hidden if weight is None else rms_norm(hidden, weight, config.norm_epsilon)


def _project(
    layer: Layer, config: ModelConfig, hidden: jax.Array, turn: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the query [B, T, K, G, D], the key and the value [B, T, K, D], rotated."""
    normed = rms_norm(hidden, layer.attention_norm, config.norm_epsilon)
    query = _norm_if(contract(normed, layer.query, 1), layer.query_norm, config)
    key_value = contract(normed, layer.key_value, 1)
    key = _norm_if(key_value[:, :, 0], layer.key_norm, config)
    query = rotate(query, turn) * jnp.asarray(config.query_scale or config.head_width**-0.5, query.dtype)
    return query, rotate(key, turn), key_value[:, :, 1]


def _seen(positions: jax.Array, context: int, window: int) -> jax.Array:
    """Return [B, T, context]: whether a token at each position looks at each place; window 0 is no bound."""
    places = jnp.arange(context)
    distance = positions[:, :, None] - places
    return (distance >= 0) & (distance < window) if window else distance >= 0


def _attend(query: jax.Array, keys: Tokens, values: Tokens, seen: jax.Array, config: ModelConfig) -> jax.Array:
    """Return attention's mix of the values, [B, T, K, G, D].

    Both products are plain batched matrix products in the cache's own order, so that no chip's compiler turns
    the cache round to take them. Scales of a cache in 8 bits go to the scores and shares: never to the cache.
    """
    batch, length, kv_heads, group, head_width = query.shape
    rows = query.transpose(0, 2, 3, 1, 4).reshape(batch, kv_heads, group * length, head_width)
    batched = ((0, 1), (0, 1))
    scores = jax.lax.dot_general(
        rows, _plain(keys, query.dtype), (((3,), (3,)), batched), preferred_element_type=jnp.float32
    )
    scores = _scaled(scores, keys)
    scores = _soft_cap(scores, config.attention_soft_cap).reshape(batch, kv_heads, group, length, -1)
    scores = jnp.where(seen[:, None, None], scores, _FAR_BELOW)
    shares = jax.nn.softmax(scores, axis=-1).reshape(batch, kv_heads, group * length, -1)
    shares = _scaled(shares, values).astype(query.dtype)
    mixed = jax.lax.dot_general(
        shares, _plain(values, query.dtype), (((3,), (2,)), batched), preferred_element_type=jnp.float32
    )
    mixed = mixed.reshape(batch, kv_heads, group, length, head_width).transpose(0, 3, 1, 2, 4)
    return mixed.astype(query.dtype)


def _plain(held: Tokens, dtype: jnp.dtype) -> jax.Array:
    """Return the numbers of keys or values, without their scale where they have one."""
    numbers: jax.Array = held.values.astype(dtype) if isinstance(held, QuantizedTokens) else held
    return numbers


def _scaled(by_token: jax.Array, held: Tokens) -> jax.Array:
    """Return [B, K, rows, context] float32 times the scale of each token."""
    if isinstance(held, QuantizedTokens):
        by_token = by_token * (held.largest / LARGEST).transpose(1, 0, 2)[:, :, None]
    return by_token


def _feed_forward(layer: Layer, config: ModelConfig, hidden: jax.Array) -> jax.Array:
    normed = rms_norm(hidden, layer.feed_forward_norm, config.norm_epsilon)
    gate_up = contract(normed, layer.gate_up, 1)
    gate, up = gate_up[..., 0, :], gate_up[..., 1, :]
    gate = jax.nn.gelu(gate, approximate=True) if config.activation == "gelu_tanh" else jax.nn.silu(gate)
    return contract(gate * up, layer.down, 1)


def _logits(parameters: Parameters, config: ModelConfig, hidden: jax.Array) -> jax.Array:
    """Return logits over the vocabulary in float32; `hidden` is [..., width]."""
    return _soft_cap(unembed(hidden, parameters), config.logit_soft_cap)


def _soft_cap(scores: jax.Array, cap: float) -> jax.Array:
    return jnp.tanh(scores / cap) * cap if cap else scores
