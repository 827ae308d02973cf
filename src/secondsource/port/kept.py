"""Compiled programs kept in files, so that a rented chip need not compile cold.

Beside each program, `NAME.xla`, lies `NAME.json`: what was compiled, from which the shapes of its arguments follow. A
program is good for the same jax and the same compiler on the same kind and number of devices. Loading one runs what is
in the file: load none that you did not make.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import msgspec
from jax.experimental import serialize_executable

from secondsource.core.errors import InputError
from secondsource.port.job import Depth, Job, Program
from secondsource.port.program import abstract_arguments


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What a kept program is."""

    job: Job
    program: Program
    depth: Depth
    jax_version: str = jax.__version__


def keep(path: Path, kept: Kept, executable: Any) -> None:
    """Write a compiled program to `path`, and beside it what it is."""
    payload, _arguments, _results = serialize_executable.serialize(executable)
    path.write_bytes(payload)
    path.with_suffix(".json").write_bytes(msgspec.json.encode(kept))


def load(path: Path, devices: Sequence[jax.Device]) -> jax.stages.Compiled:
    """Return the program of `path` on these devices, ready to be called with parameters, inputs and cache.

    Raises InputError where another jax kept it, or where the devices are not as many.
    """
    kept = msgspec.json.decode(path.with_suffix(".json").read_bytes(), type=Kept)
    if kept.jax_version != jax.__version__:
        raise InputError(f"{path}: kept by jax {kept.jax_version}, this is {jax.__version__}; compile it again")
    if kept.job.target.devices != len(devices):
        raise InputError(f"{path}: a program of {kept.job.target.devices} devices, {len(devices)} were given")
    arguments = abstract_arguments(kept.job, kept.program, kept.depth)
    called_with = jax.tree.structure((arguments, {}))
    gives = jax.tree.structure((0, arguments[-1]))  # a token or several, and the cache
    program: jax.stages.Compiled = serialize_executable.deserialize_and_load(
        path.read_bytes(), called_with, gives, backend=devices[0].client, execution_devices=devices
    )
    return program
