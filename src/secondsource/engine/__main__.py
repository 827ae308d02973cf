"""`python -m secondsource.engine serve MODEL`: one model over OpenAI's API, on this machine's own accelerator."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from secondsource.core.errors import InputError, SecondsourceError

if TYPE_CHECKING:  # it imports JAX, which may not be installed
    from secondsource.engine.service.hosting import Hosted


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until a signal says stop; 0 then, 2 when the input is wrong, 130 when interrupted before serving."""
    arguments = _parser().parse_args(argv)
    try:
        return _serve(arguments)
    except SecondsourceError as error:
        print(f"secondsource.engine: {error}", file=sys.stderr)  # noqa: T201 -- a command of its own
        return error.exit_code
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m secondsource.engine")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    serve = verbs.add_parser("serve", help="serve one model over OpenAI's API")
    serve.add_argument("model", type=Path, help="a GGUF file, or a Hugging Face directory")
    serve.add_argument("--host", default="127.0.0.1", help="an address of this machine's own (default %(default)s)")
    serve.add_argument("--port", type=int, default=8000, help="0 takes any free one (default %(default)s)")
    serve.add_argument("--name", help="the model's name in the API (default: as its files call it)")
    serve.add_argument("--slots", type=int, default=8, help="answers at once (default %(default)s)")
    serve.add_argument("--context", type=int, default=2048, help="tokens that each may hold (default %(default)s)")
    serve.add_argument("--chunk", type=int, default=64, help="tokens of a prompt read at once (default %(default)s)")
    serve.add_argument("--weights", choices=("float32", "bf16", "int8", "int8-cpu"), default="float32")
    serve.add_argument("--cache", choices=("plain", "int8"), default="plain", help="plain: as the weights' products")
    return parser


def _serve(arguments: argparse.Namespace) -> int:
    for name, least in (("slots", 1), ("context", 16), ("chunk", 1)):
        if getattr(arguments, name) < least:
            raise InputError(f"--{name} {getattr(arguments, name)}: it must be at least {least}")
    try:
        import jax  # noqa: F401, PLC0415 -- an extra: say so, and not with a traceback
    except ImportError as error:
        raise InputError("the engine needs JAX: pip install 'secondsource[engine]'") from error
    from secondsource.engine.service import starting  # noqa: PLC0415

    starting.keep_compiled(starting.compiled_cache_directory())
    options = starting.StartOptions(
        name=arguments.name,
        host=arguments.host,
        port=arguments.port,
        slots=arguments.slots,
        context_tokens=arguments.context,
        chunk_tokens=arguments.chunk,
        weights=arguments.weights,
        cache=arguments.cache,
    )
    hosted = starting.start(arguments.model, options, _say)
    import uvloop  # noqa: PLC0415 -- not before it is known that there is a model to serve

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_host(hosted))
    return 0


async def _host(hosted: "Hosted") -> None:
    from secondsource.engine.service.hosting import host, stopping_on_signals  # noqa: PLC0415

    stop = asyncio.Event()
    with stopping_on_signals(stop):
        await host(hosted, _announce, stop)


def _announce(url: str) -> None:
    print(f"Serving at {url}/v1 (OpenAI's API). Ctrl-C stops.", flush=True)  # noqa: T201


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
