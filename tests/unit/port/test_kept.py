"""A program kept by one process is loaded and run by another: on the CPU, the only chip that is here."""

from pathlib import Path

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
import pytest

from secondsource.core.errors import InputError
from secondsource.engine.cache import empty_cache
from secondsource.port.compiling import run_compile
from secondsource.port.job import Depth, Depths, Job, Program
from secondsource.port.kept import Kept, load
from secondsource.port.program import step_of
from tests.unit.engine.tiny import tiny_model
from tests.unit.port.fakes import ask, silent

DEPTH = Depth(2)
PROGRAM = Program(step="decode", sequences=2, context_tokens=32)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, Path]:
    """A decode step that a child process compiled for a CPU."""
    directory = tmp_path_factory.mktemp("kept")
    config, _ = tiny_model("llama")
    target = msgspec.structs.replace(ask().setup(1, 8).target, platform="cpu", chip="cpu", chips=1, cycles_per_s=0.0)
    job = Job(
        config=config, weights="int8", cache="int8", target=target, data_parallel=1,
        programs=((PROGRAM, Depths((DEPTH,))),), save_to=str(directory),
    )  # fmt: skip
    answer = run_compile(job, 240, silent)
    assert answer.fault is None, answer.fault
    (path,) = directory.glob("*.xla")
    return job, path


def test_it_gives_the_tokens_that_the_step_itself_gives(kept: tuple[Job, Path]) -> None:
    job, path = kept
    program = load(path, jax.devices("cpu")[:1])
    parameters = tiny_model("llama", "int8")[1]
    assert len(parameters.layers) == DEPTH.layers

    def inputs(position: int) -> tuple[jax.Array, jax.Array, jax.Array]:
        return jnp.array([5, 9], jnp.int32), jnp.full(2, position, jnp.int32), jnp.ones(2, jnp.bool_)

    one = step_of(job, PROGRAM, DEPTH)
    cache, again = (empty_cache(job.config, 2, 32, jnp.dtype(jnp.bfloat16), "int8") for _ in range(2))
    for position in range(3):
        tokens, cache = program(parameters, *inputs(position), cache)
        expected, again = jax.jit(one)(parameters, *inputs(position), again)
        assert np.array_equal(tokens, expected)
    for held, other in zip(jax.tree.leaves(cache), jax.tree.leaves(again), strict=True):
        assert np.abs(np.asarray(held, np.float32) - np.asarray(other, np.float32)).max() <= 1.0


def test_another_number_of_devices_and_another_jax_are_refused(kept: tuple[Job, Path], tmp_path: Path) -> None:
    _, path = kept
    with pytest.raises(InputError, match="of 1 devices, 2 were given"):
        load(path, jax.devices("cpu")[:1] * 2)
    record = path.with_suffix(".json")
    old = msgspec.structs.replace(msgspec.json.decode(record.read_bytes(), type=Kept), jax_version="0.1.0")
    other = tmp_path / "old.xla"
    other.write_bytes(path.read_bytes())
    other.with_suffix(".json").write_bytes(msgspec.json.encode(old))
    with pytest.raises(InputError, match=r"kept by jax 0\.1\.0"):
        load(other, jax.devices("cpu")[:1])
