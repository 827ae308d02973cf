"""The embedded default as a fleet: one model, two suppliers, both on this machine. Pure."""

import re

import msgspec

from secondsource.core.errors import InputError
from secondsource.core.fleet import Continuation, Fleet, Pool, Supplier, Timeouts
from secondsource.embedded.gguf import GgufFacts

DEFAULT_MODEL_NAME = "smollm2-135m-instruct"
SOURCES = (("local-a", "this-machine-a"), ("local-b", "this-machine-b"))  # (pool, supplier)

_SIZES = ((8, 4096), (8, 2048), (4, 2048), (2, 2048), (1, 2048), (1, 1024))  # (slots, tokens per slot)
_UNKNOWN_CACHE_BYTES_PER_TOKEN = 128 * 1024  # an 8-billion-parameter model's, where the header does not say
_BYTES_PER_PROCESS = 128 * 1024 * 1024  # interpreter and compute buffers: about 60 MB with the default model
_ENGINE_BYTES_PER_PROCESS = 700 * 1024 * 1024  # JAX, its compiler at work, and what it compiled
_ENGINE_BYTES_PER_FILE_BYTE = 4  # 8-bit weights of 4-bit ones, and room to make them
_ENGINE_BYTES_PER_CACHE_BYTE = 2  # 32-bit floats, where llama.cpp has 16
_ENGINE_ARCHITECTURES = frozenset({"llama", "qwen3", "gemma3"})
_USABLE_PART_OF_MEMORY = 0.7
_QUICK_MODEL_BYTES = 512 * 1024 * 1024

# A prompt is read in batches between other streams' tokens, by few threads: a busy source is not a dead one.
# A killed source resets its connections, so these waits only decide how long a frozen one is borne.
_QUICK_TIMEOUTS = Timeouts(first_token=60.0, between_tokens=20.0)
_SLOW_TIMEOUTS = Timeouts(first_token=300.0, between_tokens=120.0, total=1800.0)


class Sizing(msgspec.Struct, frozen=True, kw_only=True):
    """How one source is run: streams at once, tokens each may hold, threads that compute."""

    slots: int
    context_per_slot: int
    threads: int


def engine_reads(facts: GgufFacts) -> bool:
    """Return whether our own engine knows the model's architecture, and the model is small enough to be quick there."""
    return facts.architecture in _ENGINE_ARCHITECTURES and facts.file_bytes <= _QUICK_MODEL_BYTES


def choose_sizing(facts: GgufFacts, memory: int | None, cores: int, *, engine: bool = False) -> Sizing:
    """Return the largest sizing of which two fit in `memory` bytes (None: not known, take the largest).

    `engine`: the second source is our own engine, which needs more; else both are llama.cpp's. Raises InputError
    when the smallest does not fit. Cores are divided among the sources: two processes of
    two threads on two cores were measured 2 to 7 times slower than two of one, since each waits at its
    barriers for threads that the other has pushed aside.
    """
    threads = max(1, cores // len(SOURCES))
    for slots, wanted in _SIZES:
        context = min(wanted, facts.context_length or wanted)
        if memory is None or _bytes_needed(facts, slots, context, engine) <= memory * _USABLE_PART_OF_MEMORY:
            return Sizing(slots=slots, context_per_slot=context, threads=threads)
    smallest = _bytes_needed(facts, *_SIZES[-1], engine)
    raise InputError(
        f"two sources of this model need about {smallest / 1e9:.1f} GB and {(memory or 0) / 1e9:.1f} GB of memory "
        f"are free (of which {_USABLE_PART_OF_MEMORY:.0%} may be used); "
        "close other programs, or use a smaller or more strongly quantised model"
    )


def model_name(stem: str) -> str:
    """Return the name clients ask for, made from a model file's stem: only what no shell or header minds."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-.")[:128] or "model"


def default_fleet(
    *, model: str, ports: tuple[int, int], sizing: Sizing, model_bytes: int, state_dir: str = ".secondsource"
) -> Fleet:
    """Return the fleet of the two sources, listening on loopback at `ports`, at no price."""
    return Fleet(
        state_dir=state_dir,
        timeouts=_QUICK_TIMEOUTS if model_bytes <= _QUICK_MODEL_BYTES else _SLOW_TIMEOUTS,
        suppliers=tuple(Supplier(name=supplier) for _, supplier in SOURCES),
        pools=tuple(
            Pool(
                name=name,
                supplier=supplier,
                chip="cpu",
                model=model,
                upstream_model=model,
                replicas=(f"http://127.0.0.1:{port}",),
                continuation=Continuation.TOKENS,
                context_tokens=sizing.context_per_slot,
                max_concurrency=sizing.slots,
            )
            for (name, supplier), port in zip(SOURCES, ports, strict=True)
        ),
    )


def _bytes_needed(facts: GgufFacts, slots: int, context: int, engine: bool) -> int:
    cache = slots * context * (facts.cache_bytes_per_token or _UNKNOWN_CACHE_BYTES_PER_TOKEN)
    first = cache + facts.file_bytes + _BYTES_PER_PROCESS
    if not engine:
        return len(SOURCES) * first
    weights = facts.file_bytes * _ENGINE_BYTES_PER_FILE_BYTE
    return first + cache * _ENGINE_BYTES_PER_CACHE_BYTE + weights + _ENGINE_BYTES_PER_PROCESS
