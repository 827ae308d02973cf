"""From a model's files to an engine that is ready to serve: loaded, placed, and compiled before the first request."""

from collections.abc import Callable
from pathlib import Path

import jax
import msgspec
import platformdirs

from secondsource.engine.abstract import WeightFormat
from secondsource.engine.cache import CacheFormat
from secondsource.engine.load import load_model
from secondsource.engine.runner import Runner, RunnerOptions
from secondsource.engine.service.hosting import Hosted
from secondsource.engine.service.stepping import Stepper

_SMALLEST_CONTEXT_BUCKET = 256
_CONTEXT_BUCKET_FACTOR = 4


class StartOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a model is served; `context_tokens` is a slot's, and at most what the model was trained for."""

    name: str | None = None  # in the API; None: as the files call it
    host: str = "127.0.0.1"
    port: int = 0
    slots: int = 8
    context_tokens: int = 2048
    chunk_tokens: int = 64
    weights: WeightFormat = "float32"
    cache: CacheFormat = "plain"


def compiled_cache_directory() -> Path:
    """Return where compiled programs are kept: a source that is started again need not compile again."""
    return Path(platformdirs.user_cache_dir("secondsource")) / "compiled"


def keep_compiled(directory: Path) -> None:
    """Have JAX keep what it compiles in `directory`, for this process and those after it."""
    jax.config.update("jax_compilation_cache_dir", str(directory))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def start(path: Path, options: StartOptions, on_progress: Callable[[str], None]) -> Hosted:
    """Return the engine for the model at `path`, compiled; raises InputError for a model that cannot be read."""
    on_progress(f"reading {path.name}")
    model = load_model(path, options.weights)
    context = min(options.context_tokens, model.config.context_tokens)
    chunk = min(options.chunk_tokens, context)
    runner = Runner(
        model.config,
        model.parameters,
        RunnerOptions(
            slots=options.slots,
            context_buckets=context_buckets(context),
            prefill_buckets=(chunk,),
            cache=options.cache,
        ),
    )
    runner.warm_up(lambda done, of: on_progress(f"compiled {done} of {of} shapes"))
    stepper = Stepper(
        runner, slots=options.slots, vocabulary=model.config.vocabulary, chunk_tokens=runner.largest_chunk
    )
    stepper.warm_up()
    return Hosted(
        model=options.name or model.name,
        stepper=stepper,
        slots=options.slots,
        context_tokens=runner.context_tokens,
        tokenizer=model.tokenizer,
        template=model.chat_template,
        host=options.host,
        port=options.port,
    )


def context_buckets(context: int) -> tuple[int, ...]:
    """Return the lengths of cache that a step may look at: each costs a compilation, and saves time below it."""
    buckets = []
    bucket = _SMALLEST_CONTEXT_BUCKET
    while bucket < context:
        buckets.append(bucket)
        bucket *= _CONTEXT_BUCKET_FACTOR
    return (*buckets, context)
