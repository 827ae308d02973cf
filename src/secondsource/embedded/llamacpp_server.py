"""One source of the embedded default: llama.cpp's own HTTP server, in a process of its own (see `child`).

python -m secondsource.embedded.llamacpp_server --model PATH --port N --slots 8
    --context-per-slot 4096 --threads 1 --alias NAME --log FILE
"""

import argparse
import sys
import threading
from collections.abc import Sequence
from typing import Protocol

from secondsource.embedded.child import Announcement, Child, source_parser

_HTTP_THREADS_PER_SLOT = 4  # an idle kept-alive connection occupies one of llama.cpp's HTTP threads
# Tokens of a prompt read at once. Below 64, llama.cpp's attention computes a prompt's tokens just as it computes
# one token of an answer; from 64 on it takes another way that rounds differently, and an answer continued from
# its beginning may depart from the undisturbed one (docs/decisions/0002-continuing-on-llama-cpp.md). Small
# batches also let the other streams' tokens through in between.
_PROMPT_BATCH = 48


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until standard input closes; 1 when the server could not start."""
    arguments = _parser().parse_args(argv)
    child = Child(arguments.log)
    if not child.has_port(arguments.port):
        return 1
    try:
        server = _start(arguments)
    except (RuntimeError, ImportError) as error:
        # A port taken in the moment since we looked reads as any other failure here; the next start tells.
        child.announce(Announcement(problem=f"llama.cpp did not start: {error}".rstrip(".")))
        return 1
    child.announce(Announcement(url=server.listening_address))
    threading.Event().wait()  # the other thread ends the process
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = source_parser("llama.cpp's HTTP server, serving until standard input closes.")
    parser.add_argument(
        "--prompt-batch", type=int, default=_PROMPT_BATCH, help="tokens of a prompt read at once (default %(default)s)"
    )
    return parser


class _Server(Protocol):
    """What we need of xllamacpp's untyped server; it serves as long as the object lives."""

    listening_address: str


def _start(arguments: argparse.Namespace) -> _Server:
    import xllamacpp  # noqa: PLC0415 -- after the output is redirected, so that a broken wheel says so in the log

    parameters = xllamacpp.CommonParams()
    parameters.model.path = arguments.model
    parameters.model_alias = {arguments.alias}
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = arguments.port
    parameters.n_parallel = arguments.slots
    parameters.n_ctx = arguments.slots * arguments.context_per_slot
    parameters.n_batch = arguments.prompt_batch
    parameters.n_ubatch = arguments.prompt_batch
    parameters.cpuparams.n_threads = arguments.threads
    parameters.cpuparams_batch.n_threads = arguments.threads
    parameters.n_threads_http = arguments.slots * _HTTP_THREADS_PER_SLOT
    parameters.endpoint_metrics = True
    parameters.fit_params = False  # sizes were chosen by us; the server must not choose others
    parameters.cache_ram_mib = 0  # else finished prompts are kept in up to 8 GiB of memory
    parameters.ui = False
    parameters.cors_origins = ""  # else any web page may use the server through its reader's browser
    parameters.cors_credentials = False
    server: _Server = xllamacpp.Server(parameters)
    return server


if __name__ == "__main__":
    sys.exit(main())
