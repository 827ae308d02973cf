"""The runner: however a text is cut, padded, batched or interrupted, the same tokens; and nothing compiles anew."""

import functools

import jax
import numpy as np
import pytest

from secondsource.core.errors import InputError
from secondsource.engine.abstract import WeightFormat, abstract_cache, abstract_parameters
from secondsource.engine.runner import Runner, RunnerOptions
from secondsource.engine.sharding import make_mesh, parameter_shardings, tensor_parallel_ways
from tests.unit.engine.tiny import tiny_model

SLOTS, STEPS = 4, 12
OPTIONS = RunnerOptions(slots=SLOTS, context_buckets=(16, 64), prefill_buckets=(4, 16))
INT8_CACHE = RunnerOptions(slots=SLOTS, context_buckets=(16, 64), prefill_buckets=(4, 16), cache="int8")
FAMILIES = ("llama", "qwen3", "gemma3")
PROMPTS = {0: [5, 9, 1], 1: [7] * 4 + [3, 60], 2: list(range(20, 34)), 3: [90]}


@functools.cache  # compiling is what takes time here
def make_runner(name: str, weights: WeightFormat = "float32") -> Runner:
    return Runner(*tiny_model(name, weights), OPTIONS)


def read(runner: Runner, slot: int, prompt: list[int], chunk: int = 16) -> np.ndarray:
    """Prefill a prompt in chunks; return the logits after it."""
    logits = np.zeros(0)
    for start in range(0, len(prompt), chunk):
        logits = np.asarray(runner.prefill(slot, start, prompt[start : start + chunk]))[0]
    return logits


def step(runner: Runner, feed: dict[int, tuple[int, int]]) -> np.ndarray:
    """Decode one token (token, position) in each slot of `feed`."""
    tokens, positions, active = np.zeros(SLOTS, np.int32), np.zeros(SLOTS, np.int32), np.zeros(SLOTS, np.bool_)
    for slot, (token, position) in feed.items():
        tokens[slot], positions[slot], active[slot] = token, position, True
    logits = np.asarray(runner.decode(tokens, positions, active))
    return np.broadcast_to(logits, (SLOTS, logits.shape[1]))  # of a slot that is alone, its row only


def answer(runner: Runner, slot: int, prompt: list[int], steps: int = STEPS, chunk: int = 16) -> list[int]:
    """Return the greedy answer to a prompt that is alone in the runner."""
    found = [int(read(runner, slot, prompt, chunk).argmax())]
    while len(found) < steps:
        logits = step(runner, {slot: (found[-1], len(prompt) + len(found) - 1)})
        found.append(int(logits[slot].argmax()))
    return found


@pytest.mark.parametrize(
    ("name", "weights"), [*((name, "float32") for name in FAMILIES), ("llama", "int8-cpu")]
)  # the last is what the embedded default serves with
def test_the_same_tokens_alone_batched_padded_chunked_cancelled_and_resumed(name: str, weights: WeightFormat) -> None:
    runner = make_runner(name, weights)
    alone = {slot: answer(runner, slot, prompt) for slot, prompt in PROMPTS.items()}
    assert len({tuple(tokens) for tokens in alone.values()}) == len(alone)  # else sameness would say nothing
    chunked = {slot: answer(runner, 3 - slot, prompt, chunk=3) for slot, prompt in PROMPTS.items()}
    assert chunked == alone
    assert batched(runner) == alone
    for slot, prompt in PROMPTS.items():  # resumed elsewhere: the tokens so far are the end of the prompt
        whole = alone[slot]
        assert whole[:5] + answer(runner, (slot + 1) % SLOTS, prompt + whole[:5], STEPS - 5) == whole


def batched(runner: Runner) -> dict[int, list[int]]:
    """Answer all prompts at once: each joins two steps after the one before it; one more is cancelled midway."""
    found: dict[int, list[int]] = {}
    waiting = list(PROMPTS)
    cancelled = answer(runner, 3, [11, 12, 13], steps=4)
    assert cancelled
    for turn in range(STEPS + 2 * len(PROMPTS)):
        if waiting and turn % 2 == 0:
            slot = waiting.pop(0)
            found[slot] = [int(read(runner, slot, PROMPTS[slot]).argmax())]
        feed = {
            slot: (tokens[-1], len(PROMPTS[slot]) + len(tokens) - 1)
            for slot, tokens in found.items()
            if len(tokens) < STEPS
        }
        logits = step(runner, feed)
        for slot in feed:
            found[slot].append(int(logits[slot].argmax()))
    return found


def test_nothing_compiles_once_warm() -> None:
    runner = make_runner("llama")
    told: list[tuple[int, int]] = []
    runner.warm_up(lambda done, total: told.append((done, total)))
    warm = runner.compilations
    assert told[-1] == (warm, warm)
    for length in range(1, 40, 3):
        read(runner, length % SLOTS, list(range(length)))
        step(runner, {length % SLOTS: (1, length), (length + 1) % SLOTS: (2, 63)})
    assert runner.compilations == warm


def test_more_than_a_bucket_holds_is_an_error() -> None:
    runner = make_runner("llama")
    with pytest.raises(ValueError, match="at most 16"):
        runner.prefill(0, 0, list(range(17)))
    with pytest.raises(ValueError, match="at most 64"):
        step(runner, {0: (1, 64)})


@pytest.mark.parametrize(("name", "devices", "data"), [("llama", 4, 1), ("gemma3", 4, 2)])
def test_a_mesh_gives_the_same_logits(name: str, devices: int, data: int) -> None:
    config, _ = tiny_model(name)
    mesh = make_mesh(config, jax.devices()[:devices], data)
    alone, split = make_runner(name), Runner(*tiny_model(name), OPTIONS, mesh)
    for slot, prompt in list(PROMPTS.items())[2:]:
        assert np.abs(read(alone, slot, prompt) - read(split, slot, prompt)).max() < 1e-4
    feed = {slot: (slot + 1, len(prompt)) for slot, prompt in list(PROMPTS.items())[2:]}
    rows = list(feed)  # the other slots' logits mean nothing
    assert np.abs(step(alone, feed) - step(split, feed))[rows].max() < 1e-4


def test_each_device_of_a_mesh_holds_its_share() -> None:
    config, _ = tiny_model("llama")
    runner = Runner(config, tiny_model("llama")[1], OPTIONS, make_mesh(config, jax.devices()))
    shares = {shard.device for shard in runner.parameters.layers[0].gate_up.addressable_shards}
    assert len(shares) == 4
    gate_up = runner.parameters.layers[0].gate_up
    assert gate_up.addressable_shards[0].data.size * 4 == gate_up.size


def test_a_mesh_that_does_not_divide_the_model_names_those_that_do() -> None:
    config, _ = tiny_model("llama")
    assert tensor_parallel_ways(config) == [1, 2, 4]
    with pytest.raises(InputError, match=r"\[1, 2, 4\]"):
        make_mesh(config, jax.devices()[:3])


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_int8_weights_move_the_logits_a_little_and_int8_products_no_further(name: str) -> None:
    config, _ = tiny_model(name)
    prompt = PROMPTS[2]
    exact = read(make_runner(name), 0, prompt)
    rounded, in_products = (
        read(Runner(config, tiny_model(name, weights)[1], OPTIONS), 0, prompt) for weights in ("int8", "int8-cpu")
    )
    assert 1e-4 < np.abs(exact - in_products).max() < 0.2
    assert np.abs(rounded - in_products).max() < 0.1  # what is left is the other's bfloat16


def test_a_cache_in_8_bits_moves_the_logits_a_little_wherever_the_tokens_lie() -> None:
    plain, runner = make_runner("llama"), Runner(*tiny_model("llama"), INT8_CACHE)
    for slot, prompt in PROMPTS.items():
        exact, rounded = read(plain, slot, prompt), read(runner, slot, prompt, chunk=3)
        assert 1e-6 < np.abs(exact - rounded).max() < 0.05 * np.abs(exact).max()
    feed = {slot: (slot + 1, len(prompt)) for slot, prompt in PROMPTS.items()}
    exact, rounded = step(plain, feed), step(runner, feed)
    assert 1e-6 < np.abs(exact - rounded).max() < 0.05 * np.abs(exact).max()
    alone = step(runner, {2: (3, len(PROMPTS[2]))})[2]  # what a slot holds has no other slot's scales
    assert np.abs(rounded[2] - alone).max() < 1e-4


def test_a_mesh_splits_a_cache_in_8_bits_and_gives_the_same_logits() -> None:
    config, _ = tiny_model("llama")
    alone, split = (
        Runner(*tiny_model("llama"), INT8_CACHE, mesh) for mesh in (None, make_mesh(config, jax.devices()[:4], 2))
    )
    feed = {slot: (slot + 1, len(prompt)) for slot, prompt in PROMPTS.items()}
    for slot, prompt in PROMPTS.items():
        assert np.abs(read(alone, slot, prompt, chunk=4) - read(split, slot, prompt, chunk=4)).max() < 1e-3
    assert np.abs(step(alone, feed) - step(split, feed)).max() < 1e-3


def test_a_cache_in_8_bits_is_a_quarter_of_one_in_float32() -> None:
    config, _ = tiny_model("llama")
    whole, quarter = (abstract_cache(config, SLOTS, 64, "float32", form) for form in ("plain", "int8"))
    plain, int8 = (sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(cache)) for cache in (whole, quarter))
    assert int8 / plain == pytest.approx(1 / 4 + 1 / config.head_width)  # and 4 bytes for each token and head


@pytest.mark.parametrize("weights", ["float32", "bf16", "int8", "int8-cpu"])
def test_shapes_alone_are_those_of_the_weights(weights: WeightFormat) -> None:
    config, parameters = tiny_model("llama-tied", weights)
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), parameters)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), abstract_parameters(config, weights)) == shapes
    mesh = make_mesh(config, jax.devices()[:4])
    placed = jax.device_put(parameters, parameter_shardings(mesh, parameters))
    assert jax.tree.all(jax.tree.map(np.array_equal, placed, parameters))
