"""One source of the embedded default: llama.cpp's own HTTP server, in a process of its own.

    python -m secondsource.embedded.llamacpp_server --model PATH --port N --slots 8
        --context-per-slot 4096 --threads 1 --alias NAME --log FILE

It serves until its standard input closes, so that it cannot outlive the process that started it, not even
one that was killed with -9. On standard output it writes one line of JSON, `Announcement`, when it serves or
when it cannot; all else, llama.cpp's messages too, goes to the log file.
"""

import argparse
import os
import select
import shutil
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from secondsource.embedded.ports import is_free

_LONGEST_LOG = 4 * 1024 * 1024
_LOG_CHECK_S = 5.0
_HTTP_THREADS_PER_SLOT = 4  # an idle kept-alive connection occupies one of llama.cpp's HTTP threads
# Tokens of a prompt read at once. Below 64, llama.cpp's attention computes a prompt's tokens just as it computes
# one token of an answer; from 64 on it takes another way that rounds differently, and an answer continued from
# its beginning may depart from the undisturbed one (docs/decisions/0002-continuing-on-llama-cpp.md). Small
# batches also let the other streams' tokens through in between.
_PROMPT_BATCH = 48


class Announcement(msgspec.Struct, frozen=True, kw_only=True):
    """What a source says of itself: `url` when it serves, `problem` when it cannot."""

    url: str = ""
    problem: str = ""
    port_taken: bool = False


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until standard input closes; 1 when the server could not start."""
    arguments = _parser().parse_args(argv)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us in its own time
    announce_to = _redirect_output(arguments.log)
    threading.Thread(target=_die_with_parent, args=(arguments.log,), daemon=True).start()
    if not is_free(arguments.port):
        _announce(announce_to, Announcement(problem=f"port {arguments.port} is taken", port_taken=True))
        return 1
    try:
        server = _start(arguments)
    except (RuntimeError, ImportError) as error:
        # A port taken in the moment since we looked reads as any other failure here; the next start tells.
        _announce(announce_to, Announcement(problem=f"llama.cpp did not start: {error}".rstrip(".")))
        return 1
    _announce(announce_to, Announcement(url=server.listening_address))
    threading.Event().wait()  # the other thread ends the process
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="llama.cpp's HTTP server, serving until standard input closes.")
    parser.add_argument("--model", required=True, help="a GGUF file")
    parser.add_argument("--port", type=int, required=True, help="the loopback port to listen on")
    parser.add_argument("--slots", type=int, required=True, help="streams at once")
    parser.add_argument("--context-per-slot", type=int, required=True, help="tokens each stream may hold")
    parser.add_argument("--threads", type=int, required=True, help="threads that compute")
    parser.add_argument(
        "--prompt-batch", type=int, default=_PROMPT_BATCH, help="tokens of a prompt read at once (default %(default)s)"
    )
    parser.add_argument("--alias", required=True, help="the model's name in the API")
    parser.add_argument("--log", type=Path, required=True, help="where messages go")
    return parser


def _redirect_output(log: Path) -> int:
    """Send both output streams to the log; return a descriptor of the old standard output."""
    announce_to = os.dup(1)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    return announce_to


def _announce(descriptor: int, announcement: Announcement) -> None:
    os.write(descriptor, msgspec.json.encode(announcement) + b"\n")
    os.close(descriptor)


def _die_with_parent(log: Path) -> None:
    """End the process when standard input closes; meanwhile keep the log bounded.

    llama.cpp holds the interpreter's lock while it loads, so a parent's death in that second or so is seen
    at its end.
    """
    while True:
        readable, _, _ = select.select([0], [], [], _LOG_CHECK_S)
        if readable and not os.read(0, 4096):
            os._exit(0)  # at once: whoever wanted answers is gone
        bound_log(log)


def bound_log(log: Path, longest: int = _LONGEST_LOG) -> None:
    """Keep the log at most about `longest` bytes, with one older copy beside it as `NAME.1`.

    The file is emptied in place since llama.cpp holds it open, in append mode.
    """
    try:
        if log.stat().st_size > longest:
            shutil.copyfile(log, log.with_name(log.name + ".1"))
            os.truncate(log, 0)
    except OSError as error:
        print(f"the log could not be bounded: {error}", file=sys.stderr)  # noqa: T201 -- into the log itself


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
