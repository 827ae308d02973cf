"""A source of the embedded default as a process: how it hears of its parent's end, and what it says of itself.

A source serves until its standard input closes, so that it cannot outlive the process that started it, not even one
that was killed with -9. On standard output it writes one line of JSON, `Announcement`, when it serves or when it
cannot; all else goes to its log file.
"""

import argparse
import os
import select
import shutil
import signal
import sys
import threading
from pathlib import Path

import msgspec

from secondsource.embedded.ports import is_free

_LONGEST_LOG = 4 * 1024 * 1024
_LOG_CHECK_S = 5.0


class Announcement(msgspec.Struct, frozen=True, kw_only=True):
    """What a source says of itself: `url` when it serves, `problem` when it cannot."""

    url: str = ""
    problem: str = ""
    port_taken: bool = False


def source_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser of the flags that every source takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--model", required=True, help="a GGUF file")
    parser.add_argument("--port", type=int, required=True, help="the loopback port to listen on")
    parser.add_argument("--slots", type=int, required=True, help="streams at once")
    parser.add_argument("--context-per-slot", type=int, required=True, help="tokens each stream may hold")
    parser.add_argument("--threads", type=int, required=True, help="threads that compute")
    parser.add_argument("--alias", required=True, help="the model's name in the API")
    parser.add_argument("--log", type=Path, required=True, help="where messages go")
    return parser


class Child:
    """This process as a source, from its start on. Its output goes to the log, and it ends with its parent."""

    def __init__(self, log: Path) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us in its own time
        self._announce_to = _redirect_output(log)
        threading.Thread(target=_die_with_parent, args=(log,), daemon=True).start()

    def announce(self, announcement: Announcement) -> None:
        """Tell the parent, once."""
        os.write(self._announce_to, msgspec.json.encode(announcement) + b"\n")
        os.close(self._announce_to)

    def has_port(self, port: int) -> bool:
        """Return whether the port is free; announces that it is not."""
        if is_free(port):
            return True
        self.announce(Announcement(problem=f"port {port} is taken", port_taken=True))
        return False


def _redirect_output(log: Path) -> int:
    """Send both output streams to the log; return a descriptor of the old standard output."""
    announce_to = os.dup(1)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    return announce_to


def _die_with_parent(log: Path) -> None:
    """End the process when standard input closes; meanwhile keep the log bounded.

    An engine that holds the interpreter's lock while it loads sees its parent's death at the end of that.
    """
    while True:
        readable, _, _ = select.select([0], [], [], _LOG_CHECK_S)
        if readable and not os.read(0, 4096):
            os._exit(0)  # at once: whoever wanted answers is gone
        bound_log(log)


def bound_log(log: Path, longest: int = _LONGEST_LOG) -> None:
    """Keep the log at most about `longest` bytes, with one older copy beside it as `NAME.1`.

    The file is emptied in place since it is held open, in append mode.
    """
    try:
        if log.stat().st_size > longest:
            shutil.copyfile(log, log.with_name(log.name + ".1"))
            os.truncate(log, 0)
    except OSError as error:
        print(f"the log could not be bounded: {error}", file=sys.stderr)  # noqa: T201 -- into the log itself
