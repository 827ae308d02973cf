"""Lower and compile one step of the portable model for a topology: the only place of the port that meets JAX."""

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import msgspec
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from secondsource.engine.abstract import abstract_cache, abstract_parameters
from secondsource.engine.cache import Cache
from secondsource.engine.config import ModelConfig
from secondsource.engine.decoder import decode_step, prefill
from secondsource.engine.parameters import Parameters
from secondsource.engine.sharding import DATA, cache_shardings, make_mesh, parameter_shardings
from secondsource.port.assigning import assign, assigned_bytes, telling
from secondsource.port.hlo import parse_module
from secondsource.port.job import Assigned, Compiled, Depth, Job, Program
from secondsource.port.layers import layer_bytes
from secondsource.port.placing import cache_format
from secondsource.port.targets import Target, gpu_text, host_bounds
from secondsource.port.timeline import walk

# LLVM's search for loops whose iterations overlap: a quarter of the time of a prefill's code for a tpu7x, and no figure
# depends on it (docs/port.md). Programs that are kept get it.
_FIGURES_ALONE = {"tpu7x": {"xla_jf_llvm_flags": "-tpu-enable-ssi-pipelining=false"}}


def open_devices(target: Target) -> list[Any]:
    """Return the devices of a slice that is not there; needs libtpu, or JAX's CUDA plugin. A CPU is there."""
    if target.platform == "cpu":
        return jax.devices("cpu")[: target.devices]
    if target.platform == "cuda":
        options: dict[str, Any] = {"target_config": gpu_text(target.chip), "topology": target.topology}
        return list(topologies.get_topology_desc(platform="cuda", topology_name=target.chip, **options).devices)
    options = {"chips_per_host_bounds": list(host_bounds(target.chips, len(target.links.shape)))}
    if target.chip_config:
        options["chip_config_name"] = target.chip_config
    return list(topologies.get_topology_desc(platform="tpu", topology_name=target.topology, **options).devices)


def with_depth(config: ModelConfig, depth: Depth) -> ModelConfig:
    """Return the config with so many layers of each kind, the local ones first."""
    return msgspec.structs.replace(config, layers=depth.full + depth.local, local_layers=tuple(range(depth.local)))


def abstract_arguments(job: Job, program: Program, depth: Depth) -> tuple[Any, ...]:
    """Return what the step is called with, in shapes: parameters first, the cache last."""
    config = with_depth(job.config, depth)
    parameters = abstract_parameters(config, job.weights)
    cache = abstract_cache(config, program.sequences, program.context_tokens, job.weights, cache_format(job.cache))
    if program.step == "decode":
        rows = jax.ShapeDtypeStruct((program.sequences,), jnp.int32)
        flags = jax.ShapeDtypeStruct((program.sequences,), jnp.bool_)
        return parameters, rows, rows, flags, cache
    one = jax.ShapeDtypeStruct((1,), jnp.int32)
    chunk = jax.ShapeDtypeStruct((1, program.chunk_tokens), jnp.int32)
    return parameters, chunk, one, one, one, cache


def step_of(job: Job, program: Program, depth: Depth) -> Callable[..., tuple[jax.Array, Cache]]:
    """Return the step; tokens go in and tokens come out, so that nothing of the size of logits leaves."""
    config = with_depth(job.config, depth)

    def decode(
        parameters: Parameters, tokens: jax.Array, positions: jax.Array, active: jax.Array, cache: Cache
    ) -> tuple[jax.Array, Cache]:
        looked_at = program.filled_tokens or None
        logits, cache = decode_step(parameters, config, tokens, positions, active, cache, context=looked_at)
        return jnp.argmax(logits, axis=-1).astype(jnp.int32), cache

    def read(
        parameters: Parameters,
        tokens: jax.Array,
        starts: jax.Array,
        lengths: jax.Array,
        slots: jax.Array,
        cache: Cache,
    ) -> tuple[jax.Array, Cache]:
        context = min(program.context_tokens, max(program.prompt_tokens, tokens.shape[1]))
        logits, cache = prefill(parameters, config, tokens, starts, lengths, slots, cache, context=context)
        return jnp.argmax(logits, axis=-1).astype(jnp.int32), cache

    return decode if program.step == "decode" else read


def lower_program(job: Job, program: Program, depth: Depth, mesh: Mesh) -> Any:
    """Return the lowered step, spread over the mesh."""
    parameters, *small, cache = abstract_arguments(job, program, depth)
    by_slot = NamedSharding(mesh, PartitionSpec(DATA) if program.step == "decode" else PartitionSpec())
    held = cache_shardings(mesh, cache)
    parameters = _placed(parameters, parameter_shardings(mesh, parameters))
    small = [_placed(each, by_slot) for each in small]
    step = jax.jit(step_of(job, program, depth), donate_argnames="cache", out_shardings=(by_slot, held))
    return step.lower(parameters, *small, _placed(cache, held))


def _placed(arrays: Any, shardings: Any) -> Any:
    return jax.tree.map(
        lambda array, sharding: jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=sharding), arrays, shardings
    )


def compile_program(job: Job, program: Program, depth: Depth, mesh: Mesh) -> tuple[Compiled, Any]:
    """Return what the compiler makes of a step at a depth, and the executable; raises JAX's errors."""
    began = time.process_time()
    lowered = lower_program(job, program, depth, mesh)
    with tempfile.TemporaryDirectory() as directory:
        executable = lowered.compile(compiler_options=compiler_options(job, Path(directory)))
        assigned = assigned_bytes(Path(directory)) if job.target.cycles_per_s else None
    seconds = time.process_time() - began
    memory = executable.memory_analysis()
    cost: Mapping[str, float] = executable.cost_analysis() or {}
    module = parse_module(executable.as_text())
    walked = walk(module, job.target.pace) if job.target.cycles_per_s else None
    compiled = Compiled(
        program=program,
        depth=depth,
        seconds=seconds,
        arguments_bytes=memory.argument_size_in_bytes,
        layer_bytes=layer_bytes(module.entry),
        temporaries_bytes=memory.temp_size_in_bytes,
        assigned_bytes=assigned,
        outputs_bytes=max(0, memory.output_size_in_bytes - memory.alias_size_in_bytes),
        code_bytes=memory.generated_code_size_in_bytes,
        flops=float(cost.get("flops", 0.0)),
        walked=walked,
    )
    return compiled, executable


def compiler_options(job: Job, directory: Path) -> dict[str, Any] | None:
    """Return what XLA is told: to write down what it assigns, and to leave out what no figure depends on."""
    if not job.target.cycles_per_s:
        return None
    return {**telling(directory), **({} if job.save_to else _FIGURES_ALONE.get(job.target.chip, {}))}


def assign_program(job: Job, program: Program, depth: Depth, mesh: Mesh) -> Assigned:
    """Return what memory the compiler assigns to a step at a depth, without its code; raises JAX's errors.

    The compiler goes on behind it: let the process end soon.
    """
    lowered = lower_program(job, program, depth, mesh)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        return Assigned(program=program, depth=depth, temporaries_bytes=assign(lowered, Path(directory)))


def mesh_of(job: Job, devices: list[Any]) -> Mesh:
    """Return the mesh of a job's devices; raises InputError where the model does not divide so."""
    return make_mesh(job.config, devices, job.data_parallel)
