"""One source of the embedded default: our own engine, in a process of its own (see `child`).

    python -m secondsource.embedded.engine_server --model PATH --port N --slots 8
        --context-per-slot 4096 --threads 1 --alias NAME --log FILE

It compiles its model before it serves: a while at first, and a moment once the compiled programs are kept.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from secondsource.core.errors import SecondsourceError
from secondsource.embedded.child import Announcement, Child, source_parser


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until standard input closes; 1 when the engine could not start, or failed."""
    arguments = source_parser("our own engine, serving until standard input closes.").parse_args(argv)
    child = Child(arguments.log)
    if not child.has_port(arguments.port):
        return 1
    _bound_threads(arguments.threads)
    try:
        _serve(arguments, lambda url: child.announce(Announcement(url=url)))
    except (SecondsourceError, ImportError) as error:
        child.announce(Announcement(problem=f"the engine did not start: {error}".rstrip(".")))
        return 1
    return 0


def _bound_threads(threads: int) -> None:
    """Have XLA compute on `threads` threads; it reads this when it is loaded, and else takes every core."""
    os.environ["NPROC"] = str(threads)


def _serve(arguments: argparse.Namespace, on_ready: Callable[[str], None]) -> None:
    # After the output is redirected and the threads are bounded: loading JAX does work of its own.
    import uvloop  # noqa: PLC0415

    from secondsource.engine.service import starting  # noqa: PLC0415
    from secondsource.engine.service.hosting import host, stopping_on_signals  # noqa: PLC0415

    starting.keep_compiled(starting.compiled_cache_directory())
    options = starting.StartOptions(
        name=arguments.alias,
        port=arguments.port,
        slots=arguments.slots,
        context_tokens=arguments.context_per_slot,
        weights="int8-cpu",  # of the forms that XLA computes with on a CPU, the quickest
    )
    hosted = starting.start(Path(arguments.model), options, _say)

    async def serve() -> None:
        stop = asyncio.Event()
        with stopping_on_signals(stop):
            await host(hosted, on_ready, stop)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 -- into the log


if __name__ == "__main__":
    sys.exit(main())
