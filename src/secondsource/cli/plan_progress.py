"""A progress line on standard error: what is being done, once work has taken more than two seconds."""

import time
from types import TracebackType

from rich.console import Console

_QUIET_S = 2.0


class Progress:
    """A spinner with one line on a terminal; elsewhere a line every two seconds at most."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._began = time.monotonic()
        self._said = self._began
        self._status = self._console.status("planning")

    def __enter__(self) -> "Progress":
        if self._console.is_terminal:
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._status.stop()

    def say(self, text: str) -> None:
        """Tell what is being done."""
        seconds = time.monotonic() - self._began
        if self._console.is_terminal:
            self._status.update(f"{seconds:5.1f} s  {text}")
        elif time.monotonic() - self._said > _QUIET_S:
            self._said = time.monotonic()
            self._console.print(f"{seconds:5.1f} s  {text}", markup=False, highlight=False, soft_wrap=True)
