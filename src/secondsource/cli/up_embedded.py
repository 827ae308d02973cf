"""Prepares the embedded default: the model, its sizing, free ports, and the fleet of this machine's sources."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path

import msgspec

from secondsource.cli.screen import Screen
from secondsource.core.errors import InputError
from secondsource.core.fleet import Fleet
from secondsource.embedded import default_fleet as defaults
from secondsource.embedded.gguf import GgufFacts, read_gguf
from secondsource.embedded.machine import available_memory, usable_cores
from secondsource.embedded.model import DEFAULT_MODEL, default_model, model_cache_directory
from secondsource.embedded.ports import choose_free_ports
from secondsource.embedded.supervisor import SourceSpec, engine_source, llamacpp_source

_ENGINE_PACKAGES = ("jax", "gguf", "tokenizers", "jinja2")
_READY_S = 60.0
_LOADED_BYTES_PER_S = 20e6  # a slow disk's; only decides how long a start is waited for


class Embedded(msgspec.Struct, frozen=True, kw_only=True):
    """What is served when there is no fleet file, and the processes that have to run for it."""

    fleet: Fleet
    sources: tuple[SourceSpec, ...]
    ready_within_s: float
    small_model: bool


def require_llamacpp() -> None:
    """Raise InputError when the embedded default's engine is not installed."""
    if importlib.util.find_spec("xllamacpp") is None:
        raise InputError(
            "the embedded default needs llama.cpp (the package xllamacpp), which is not installed: "
            "pip install 'secondsource[embedded]', or serve a fleet file: secondsource up FLEET.toml"
        )


def prepare_embedded(
    model: Path | None,
    local_b: str | None,
    state_dir: str,
    avoid_ports: tuple[int, ...],
    environ: Mapping[str, str],
    screen: Screen,
) -> Embedded:
    """Return what to run; fetches the default model when `model` is None and it is not there yet.

    `local_b` is what runs the second source: "engine", "llamacpp", or None for the engine where it can.
    """
    name = defaults.DEFAULT_MODEL_NAME if model is None else defaults.model_name(model.stem)
    if model is None:
        with screen.download("Model"):
            path = default_model(DEFAULT_MODEL, model_cache_directory(), environ=environ, listener=screen)
    else:
        path = model.absolute()
    facts = read_gguf(path)
    engine, sizing = _choose_second(local_b, facts, screen)
    first, second = choose_free_ports(2, avoid=avoid_ports)
    fleet = defaults.default_fleet(
        model=name, ports=(first, second), sizing=sizing, model_bytes=facts.file_bytes, state_dir=state_dir
    )
    logs = _state_directory(state_dir)
    makers = (llamacpp_source, engine_source if engine else llamacpp_source)
    return Embedded(
        fleet=fleet,
        sources=tuple(
            make(name=pool, port=port, model=path, alias=name, sizing=sizing, log=logs / f"{pool}.log")
            for make, (pool, _), port in zip(makers, defaults.SOURCES, (first, second), strict=True)
        ),
        ready_within_s=_READY_S + facts.file_bytes / _LOADED_BYTES_PER_S,
        small_model=model is None,
    )


def _choose_second(local_b: str | None, facts: GgufFacts, screen: Screen) -> tuple[bool, defaults.Sizing]:
    """Return whether the second source is our own engine, and the sources' sizing; says why when it cannot be."""
    memory, cores = available_memory(), usable_cores()
    missing = [name for name in _ENGINE_PACKAGES if importlib.util.find_spec(name) is None]
    why = ""
    if missing:
        why = f"the engine's packages are not installed ({', '.join(missing)}): pip install 'secondsource[engine]'"
    elif not defaults.engine_reads(facts):
        why = f"the engine does not take a {facts.architecture or 'nameless'} model of {facts.file_bytes / 1e9:.1f} GB"
    if local_b != "llamacpp" and not why:
        try:
            return True, defaults.choose_sizing(facts, memory, cores, engine=True)
        except InputError as error:
            why = str(error)
    if local_b == "engine":
        raise InputError(f"--local-b engine: {why}")
    if local_b is None:
        screen.say(f"Both sources are llama.cpp's: {why}.")
    return False, defaults.choose_sizing(facts, memory, cores)


def _state_directory(state_dir: str) -> Path:
    directory = Path(state_dir)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{directory}: the state directory cannot be made ({error.strerror}); name another with --state-dir"
        ) from error
    return directory
