"""What a person sees while `secondsource up` works: on standard error, so that standard output stays clean."""

import contextlib
import time
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

_LINE_EVERY_S = 3.0


class Screen:
    """Progress for a terminal as bars and spinners, for anything else as a line now and then."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._download: Progress | None = None
        self._last_line_at = 0.0

    def say(self, text: str) -> None:
        """Tell the user something, once."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextlib.contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Show that `text` is being done until the block ends."""
        if not self._console.is_terminal:
            self.say(text)
            yield
            return
        with self._console.status(text):
            yield

    @contextlib.contextmanager
    def download(self, text: str) -> Iterator[None]:
        """Show a bar from the first `on_bytes` on, until the block ends."""
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        progress = Progress(*columns, TimeRemainingColumn(), console=self._console)
        progress.add_task(text, total=None)
        self._download = progress
        try:
            yield
        finally:
            if progress.live.is_started:  # to stop an unstarted one prints an empty line
                progress.stop()
            self._download = None

    def on_bytes(self, done: int, total: int) -> None:
        """Show that `done` of `total` bytes have arrived."""
        if self._console.is_terminal:
            if self._download is not None:
                self._download.start()
                for task in self._download.tasks:
                    self._download.update(task.id, completed=done, total=total)
            return
        now = time.monotonic()
        if now - self._last_line_at >= _LINE_EVERY_S or done >= total > 0:
            self._last_line_at = now
            self.say(f"  {done / 1e6:.0f} of {total / 1e6:.0f} MB ({100 * done // max(total, 1)} %)")
