"""Programs held to one core, and what they cost: seconds of CPU and bytes of memory, children included."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from secondsource.benchmarking.tools import find_tool
from secondsource.core.errors import SecondsourceError

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_STOP_WITHIN_S = 10.0


def on_core(core: int, command: Sequence[str | Path]) -> list[str]:
    """Return the command that runs `command` on one core alone."""
    return [find_tool("taskset"), "-c", str(core), *map(str, command)]


class Program:
    """One running program with its children, and its log; ends with the block it is used in."""

    def __init__(self, name: str, command: Sequence[str | Path], log: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                list(map(str, command)),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                start_new_session=True,  # our Ctrl-C is ours: we stop it in order
            )

    def __enter__(self) -> "Program":
        return self

    def __exit__(self, *_: object) -> None:
        self._signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._signal(signal.SIGKILL)
            self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return

    def require_alive(self) -> None:
        """Raise SecondsourceError, with the end of its log, if the program has ended."""
        status = self._process.poll()
        if status is not None:
            raise SecondsourceError(f"{self.name} ended with status {status}: {self.last_words()}")

    def last_words(self) -> str:
        """Return the end of what it printed."""
        return self._log.read_text("utf-8", "replace").strip()[-600:] or "(it printed nothing)"

    def cpu_s(self) -> float:
        """Return the CPU seconds, user and system, that its living processes have used."""
        return sum(_stat_ticks(pid) for pid in _tree(self._process.pid)) / _TICKS_PER_S

    def rss_bytes(self) -> int:
        """Return the resident memory of its processes."""
        return sum(_resident_pages(pid) for pid in _tree(self._process.pid)) * _PAGE_BYTES

    def settle(self, within_s: float) -> None:
        """Wait until it is idle, at most `within_s` seconds: work left from before is not the next row's."""
        ends = time.monotonic() + within_s
        before = self.cpu_s()
        while time.monotonic() < ends:
            time.sleep(0.25)
            after = self.cpu_s()
            if after - before < 0.03:
                return
            before = after


def _tree(pid: int) -> Iterator[int]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in _read(children).split():
            yield from _tree(int(child))


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace")
    except OSError:  # a process may end while it is looked at
        return ""


def _stat_ticks(pid: int) -> int:
    fields = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12]) if fields else 0


def _resident_pages(pid: int) -> int:
    fields = _read(Path(f"/proc/{pid}/statm")).split()
    return int(fields[1]) if fields else 0
