"""The sampler keeps what its settings say, draws as likely as it should, and never looks at another row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from secondsource.engine.service import sampler
from secondsource.engine.service.sampler import Marks, Sampled, Settings

VOCABULARY = 97
DRAWS = 2000
sample = jax.jit(sampler.sample)


def settings(rows: int, **given: object) -> Settings:
    plain: dict[str, tuple[object, type]] = {
        "temperature": (1.0, np.float32),
        "top_k": (0, np.int32),
        "top_p": (1.0, np.float32),
        "min_p": (0.0, np.float32),
        "repetition_penalty": (1.0, np.float32),
        "presence_penalty": (0.0, np.float32),
        "frequency_penalty": (0.0, np.float32),
        "seed": (0, np.uint32),
        "marked": (False, np.bool_),
        "wants_logprobs": (False, np.bool_),
    }
    assert set(given) <= set(plain)
    filled = {
        name: jnp.asarray(np.broadcast_to(np.asarray(given.get(name, value), kind), (rows,)))
        for name, (value, kind) in plain.items()
    }
    return Settings(**filled)


def logits_of(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 3, (rows, VOCABULARY)).astype(np.float32)


def draw(logits: np.ndarray, chosen: Settings, positions: np.ndarray, marks: Marks | None = None) -> Sampled:
    marks = marks or sampler.empty_marks(*logits.shape)
    return sample(jnp.asarray(logits), chosen, marks, jnp.asarray(positions, jnp.int32))


def kept_by_sorting(logits: np.ndarray, temperature: float, top_k: int, top_p: float, min_p: float) -> set[int]:
    """What the settings leave, by the textbook: sort, cut, renormalise, cut."""
    weights = np.exp((logits - logits.max()) / temperature, dtype=np.float64)
    order = np.argsort(-weights, kind="stable")
    if top_k:
        order = order[:top_k]
    total = weights[order].sum()
    below = np.cumsum(weights[order]) - weights[order]
    order = order[below < top_p * total] if top_p < 1 else order
    return {int(token) for token in order if weights[token] >= min_p}


def test_temperature_0_takes_the_likeliest_and_tells_its_logprob() -> None:
    logits = logits_of(6)
    found = draw(logits, settings(6, temperature=0.0, wants_logprobs=True), np.arange(6))
    assert list(found.tokens) == list(logits.argmax(-1))
    logprobs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    np.testing.assert_allclose(found.logprobs, logprobs.max(-1), atol=1e-5)


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p", "min_p"),
    [
        (1.0, 5, 1.0, 0.0),
        (0.7, 0, 0.8, 0.0),
        (1.5, 0, 1.0, 0.05),
        (1.3, 9, 0.7, 0.02),
        (1.0, 1, 1.0, 0.0),
        (1, 0, 0, 0),
    ],
)
def test_only_what_the_settings_leave_is_drawn_and_all_of_it(
    temperature: float, top_k: int, top_p: float, min_p: float
) -> None:
    (row,) = logits_of(1, seed=3)
    chosen = settings(DRAWS, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    found = draw(np.tile(row, (DRAWS, 1)), chosen, np.arange(DRAWS)).tokens
    wanted = kept_by_sorting(row, temperature, top_k, top_p, min_p) or {int(row.argmax())}
    weights = np.exp((row - row.max()) / temperature)
    likely = {token for token in wanted if weights[token] / sum(weights[list(wanted)]) > 0.01}
    assert likely <= {int(token) for token in found} <= wanted


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    (row,) = logits_of(1, seed=5)
    draws = 20_000
    found = draw(np.tile(row, (draws, 1)), settings(draws, seed=11), np.arange(draws)).tokens
    counted = np.bincount(np.asarray(found), minlength=VOCABULARY)
    expected = np.exp(row - row.max()) / np.exp(row - row.max()).sum() * draws
    seen = expected > 5
    chi_squared = (((counted - expected) ** 2) / expected)[seen].sum()
    assert chi_squared < 2 * seen.sum() + 20


def test_a_row_does_not_depend_on_its_batch_nor_on_its_place() -> None:
    logits = logits_of(6, seed=7)
    given = {
        "temperature": np.array([0, 1, 0.7, 1.2, 1, 0.9]),
        "top_k": np.array([0, 0, 7, 0, 3, 0]),
        "top_p": np.array([1, 1, 1, 0.6, 0.9, 1]),
        "seed": np.arange(6) + 40,
        "wants_logprobs": np.array([0, 0, 0, 1, 0, 0]),
    }
    positions = np.array([3, 9, 4, 100, 5, 6])
    together = draw(logits, settings(6, **given), positions)
    for row in range(6):
        alone = draw(
            logits[[row]], settings(1, **{name: value[row] for name, value in given.items()}), positions[[row]]
        )
        assert int(alone.tokens[0]) == int(together.tokens[row])
    turned = [4, 2, 0, 5, 1, 3]
    again = draw(logits[turned], settings(6, **{n: v[turned] for n, v in given.items()}), positions[turned])
    assert list(again.tokens) == list(np.asarray(together.tokens)[turned])


def test_the_seed_and_the_position_decide_the_draw() -> None:
    logits = np.zeros((DRAWS, VOCABULARY), np.float32)
    by_seed = draw(logits, settings(DRAWS, seed=np.arange(DRAWS)), np.full(DRAWS, 5)).tokens
    by_position = draw(logits, settings(DRAWS, seed=3), np.arange(DRAWS)).tokens
    assert set(np.asarray(by_seed)) == set(np.asarray(by_position)) == set(range(VOCABULARY))
    assert list(by_position) == list(draw(logits, settings(DRAWS, seed=3), np.arange(DRAWS)).tokens)


def test_penalties_count_prompt_and_answer_as_openai_and_vllm_do() -> None:
    logits = logits_of(2, seed=9)
    marks = sampler.empty_marks(2, VOCABULARY)
    prompt = np.zeros(VOCABULARY, bool)
    prompt[3] = True
    bias = np.zeros(VOCABULARY, np.float32)
    bias[50] = 2.5
    marks = sampler.begin_row(marks, jnp.int32(1), prompt, np.zeros(VOCABULARY, np.int32), bias)
    for token in (8, 8, 3):
        marks = sampler.note_tokens(marks, jnp.array([8, token]), jnp.array([False, True]))
    given = {"repetition_penalty": 1.5, "presence_penalty": 0.4, "frequency_penalty": 0.3, "marked": np.array([0, 1])}
    shaped = np.asarray(sampler._penalised(jnp.asarray(logits), settings(2, **given), marks))
    np.testing.assert_array_equal(shaped[0], logits[0])
    expected = logits[1].copy()
    for token, times in ((8, 2), (3, 1)):
        expected[token] = expected[token] / 1.5 if expected[token] > 0 else expected[token] * 1.5
        expected[token] -= 0.3 * times + 0.4
    expected[50] += 2.5
    np.testing.assert_allclose(shaped[1], expected, atol=1e-5)


def test_bias_can_force_and_forbid_a_token() -> None:
    logits = logits_of(1, seed=2)
    bias = np.zeros(VOCABULARY, np.float32)
    bias[17] = 100.0
    nothing = np.zeros(VOCABULARY, bool), np.zeros(VOCABULARY, np.int32)
    marks = sampler.begin_row(sampler.empty_marks(1, VOCABULARY), jnp.int32(0), *nothing, bias)
    assert int(draw(logits, settings(1, marked=True), np.arange(1), marks).tokens[0]) == 17
    marks = sampler.begin_row(marks, jnp.int32(0), *nothing, -bias)
    forbidden = draw(np.tile(logits, (1, 1)), settings(1, marked=True, temperature=0), np.arange(1), marks)
    assert int(forbidden.tokens[0]) != 17


def test_top_logprobs_are_the_models_own_likeliest() -> None:
    logits = logits_of(2, seed=4)
    found = draw(logits, settings(2, temperature=0.3, wants_logprobs=np.array([1, 0])), np.arange(2))
    order = np.argsort(-logits[0])[: sampler.MOST_TOP_LOGPROBS]
    assert list(found.top_tokens[0]) == list(order)
    logprobs = logits[0] - np.log(np.exp(logits[0]).sum())
    np.testing.assert_allclose(found.top_logprobs[0], logprobs[order], atol=1e-5)


def test_no_settings_compile_another_function() -> None:
    def fresh(logits: jax.Array, chosen: Settings, marks: Marks, positions: jax.Array) -> Sampled:
        return sampler.sample(logits, chosen, marks, positions)

    counted = jax.jit(fresh)  # jit counts by function, and others jit `sample` itself
    marks = sampler.empty_marks(3, VOCABULARY)
    for given in ({"temperature": 0.0}, {"top_k": 4}, {"top_p": 0.5, "wants_logprobs": True}, {"marked": True}):
        counted(jnp.asarray(logits_of(3)), settings(3, **given), marks, jnp.arange(3))
    assert counted._cache_size() == 1
