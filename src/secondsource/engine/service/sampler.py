"""From logits to tokens, for a batch whose rows are sampled each in its own way: one compiled function.

A row's token depends on its own logits, settings and history only: its random number comes from its seed and the
token's position, so that the same request gives the same answer alone, in a batch, and continued elsewhere. What no
row asks for is skipped at run time, and not by compiling another function.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

Array = Any  # jax.Array, or np.ndarray until a compiled function takes it

MOST_TOP_LOGPROBS = 20
_BITS = 32


class Settings(NamedTuple):
    """How each row is sampled; arrays [S], with the values that change nothing in brackets."""

    temperature: Array  # float32; 0 takes the likeliest
    top_k: Array  # int32 [0]: only the k likeliest
    top_p: Array  # float32 [1]: only the likeliest whose probabilities reach p together
    min_p: Array  # float32 [0]: only those at least this part as likely as the likeliest
    repetition_penalty: Array  # float32 [1], over prompt and answer
    presence_penalty: Array  # float32 [0], over the answer
    frequency_penalty: Array  # float32 [0], over the answer
    seed: Array  # uint32
    marked: Array  # bool [False]: the row's `Marks` change its logits
    wants_logprobs: Array  # bool [False]


class Marks(NamedTuple):
    """What has been seen in each row, and what the client favours."""

    prompt: Array  # bool [S, V]: in the prompt
    made: Array  # int32 [S, V]: how often in the answer
    bias: Array  # float32 [S, V]: added to the logits


class Sampled(NamedTuple):
    """One token for each row; where a row wants logprobs, those of the model's own logits, before any setting.

    In nats; where no row wants them, all but the tokens is zeros.
    """

    tokens: jax.Array  # int32 [S]
    logprobs: jax.Array  # float32 [S]
    top_tokens: jax.Array  # int32 [S, MOST_TOP_LOGPROBS], likeliest first
    top_logprobs: jax.Array  # float32 [S, MOST_TOP_LOGPROBS]


def empty_marks(slots: int, vocabulary: int) -> Marks:
    """Return marks that change nothing."""
    shape = (slots, vocabulary)
    return Marks(jnp.zeros(shape, bool), jnp.zeros(shape, jnp.int32), jnp.zeros(shape, jnp.float32))


def begin_row(marks: Marks, slot: jax.Array, prompt: jax.Array, made: jax.Array, bias: jax.Array) -> Marks:
    """Return `marks` with the row `slot` begun anew: prompt [V] bool, made [V] int32, bias [V] float32."""
    return Marks(marks.prompt.at[slot].set(prompt), marks.made.at[slot].set(made), marks.bias.at[slot].set(bias))


def note_tokens(marks: Marks, tokens: jax.Array, active: jax.Array) -> Marks:
    """Return `marks` with one more token [S] made in each active row."""
    rows = jnp.arange(tokens.shape[0])
    return marks._replace(made=marks.made.at[rows, tokens].add(active.astype(jnp.int32)))


def sample_slots(
    logits: jax.Array, settings: Settings, marks: Marks, positions: jax.Array, tokens: jax.Array, slots: jax.Array
) -> tuple[Sampled, jax.Array]:
    """Choose a token for each row of `logits` [R, V], which is that of the slot in `slots` [R]; put it in `tokens` too.

    Settings, positions and tokens are all slots', [S]; `marks` are the rows' own. A row of slot S is nobody's: its
    token is put nowhere. So the next step can read `tokens` before anybody has seen them.
    """
    held = jnp.minimum(slots, tokens.shape[0] - 1)
    found = sample(logits, Settings(*(setting[held] for setting in settings)), marks, positions[held])
    return found, tokens.at[slots].set(found.tokens, mode="drop")


def sample(logits: jax.Array, settings: Settings, marks: Marks, positions: jax.Array) -> Sampled:
    """Choose a token for every row of `logits` [S, V]; `positions` [S] are where the tokens will stand."""
    logits = logits.astype(jnp.float32)
    shaped = lax.cond(jnp.any(settings.marked), _penalised, lambda logits, *_: logits, logits, settings, marks)
    tokens = lax.cond(jnp.any(settings.temperature > 0), _drawn, _likeliest, shaped, settings, positions)
    told = lax.cond(jnp.any(settings.wants_logprobs), _told, _untold, logits, tokens)
    return Sampled(tokens, *told)


def _likeliest(logits: jax.Array, settings: Settings, positions: jax.Array) -> jax.Array:
    del settings, positions
    return _first_greatest(logits)


def _first_greatest(logits: jax.Array) -> jax.Array:
    # Two plain reductions: XLA's argmax carries pairs, and is several times slower on a CPU.
    last = logits.shape[-1] - 1
    places = lax.broadcasted_iota(jnp.int32, logits.shape, 1)
    greatest = jnp.max(logits, axis=-1, keepdims=True)
    return jnp.min(jnp.where(logits == greatest, places, last), axis=-1)


def _told(logits: jax.Array, tokens: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    logprobs = jax.nn.log_softmax(logits, axis=-1)
    chosen = jnp.take_along_axis(logprobs, tokens[:, None], axis=-1)[:, 0]
    top_logprobs, top_tokens = lax.top_k(logprobs, min(MOST_TOP_LOGPROBS, logits.shape[-1]))
    return chosen, top_tokens.astype(jnp.int32), top_logprobs


def _untold(logits: jax.Array, tokens: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    shape = (logits.shape[0], min(MOST_TOP_LOGPROBS, logits.shape[-1]))
    return jnp.zeros(tokens.shape, jnp.float32), jnp.zeros(shape, jnp.int32), jnp.zeros(shape, jnp.float32)


def _penalised(logits: jax.Array, settings: Settings, marks: Marks) -> jax.Array:
    """Apply penalties as vLLM does (Keskar et al. 2019 for repetition, OpenAI's API for the others), then the bias."""
    made = marks.made.astype(logits.dtype)
    repetition = jnp.where(marks.prompt | (marks.made > 0), settings.repetition_penalty[:, None], 1.0)
    shaped = jnp.where(logits > 0, logits / repetition, logits * repetition)
    shaped -= settings.frequency_penalty[:, None] * made
    shaped -= settings.presence_penalty[:, None] * (made > 0)
    return jnp.where(settings.marked[:, None], shaped + marks.bias, logits)


def _drawn(logits: jax.Array, settings: Settings, positions: jax.Array) -> jax.Array:
    """Draw by the inverse of the cumulated probabilities; rows of temperature 0 take the likeliest."""
    scaled = logits / jnp.where(settings.temperature > 0, settings.temperature, 1.0)[:, None]
    probabilities = jnp.exp(scaled - jnp.max(scaled, axis=-1, keepdims=True))  # of the likeliest: 1
    floor = settings.min_p
    narrows = jnp.any((settings.top_k > 0) | (settings.top_p < 1.0))
    floor = lax.cond(narrows, _narrowed, lambda probabilities, settings, floor: floor, probabilities, settings, floor)
    kept = jnp.where(probabilities >= floor[:, None], probabilities, 0.0)
    cumulated = jnp.cumsum(kept, axis=-1)
    chance = jax.vmap(_uniform)(settings.seed, positions)
    # The first token with weight whose cumulated weight exceeds the draw. Sums in parallel may round out of order.
    reached = (cumulated > (chance * cumulated[:, -1])[:, None]) & (kept > 0)
    draws = (settings.temperature > 0) & jnp.any(reached, axis=-1)
    return jnp.where(draws, jnp.argmax(reached, axis=-1).astype(jnp.int32), _first_greatest(logits))


def _uniform(seed: jax.Array, position: jax.Array) -> jax.Array:
    return jax.random.uniform(jax.random.fold_in(jax.random.key(seed), position))


def _narrowed(probabilities: jax.Array, settings: Settings, floor: jax.Array) -> jax.Array:
    """Return the least probability kept under top-k, then top-p of what that leaves; ties are kept together."""
    vocabulary = probabilities.shape[-1]
    most = jnp.where(settings.top_k > 0, settings.top_k, vocabulary)
    by_k = _greatest_floor(probabilities, lambda kept: jnp.sum(kept, axis=-1) >= most)
    left = jnp.where(probabilities >= by_k[:, None], probabilities, 0.0)
    wanted = settings.top_p * jnp.sum(left, axis=-1)
    by_p = _greatest_floor(left, lambda kept: jnp.sum(jnp.where(kept, left, 0.0), axis=-1) >= wanted)
    by_p = jnp.where(settings.top_p < 1.0, by_p, 0.0)
    return jnp.maximum(floor, jnp.maximum(by_k, by_p))


def _greatest_floor(probabilities: jax.Array, enough: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """Return, for each row, the greatest floor of which `enough(probabilities >= floor)` still holds.

    Found bit by bit: the bits of a float that is not negative, read as an integer, ascend with it. That is exact,
    and needs no sort, which is what a vocabulary costs most.
    """

    def with_bit(number: jax.Array, bits: jax.Array) -> jax.Array:
        candidate = bits | (jnp.int32(1) << (_BITS - 2 - number))
        floor = lax.bitcast_convert_type(candidate, jnp.float32)
        # A candidate beyond 1 may be no number at all; no probability reaches it.
        fits = (floor <= 1.0) & enough(probabilities >= floor[:, None])
        return jnp.where(fits, candidate, bits)

    start = jnp.zeros(probabilities.shape[0], jnp.int32)
    return lax.bitcast_convert_type(lax.fori_loop(0, _BITS - 1, with_bit, start), jnp.float32)
