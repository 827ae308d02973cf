"""What follows the end of a request: its line in the log, its limits settled, its trace told.

All that end in one turn of the loop are written together, and after their last attempts are settled, which is after
their answers have left.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

from secondsource.gateway.exchange import Exchange
from secondsource.gateway.exchange_line import line_of
from secondsource.gateway.limiting import Limiting
from secondsource.gateway.meter import Meter
from secondsource.gateway.request_log import RequestLine, RequestLog
from secondsource.gateway.tracing import Tracing


class Ended(NamedTuple):
    """A request that is over and has yet to be logged."""

    exchange: Exchange
    status: int
    duration_s: float


class Endings:
    """Owns the requests that have ended in this turn of the loop."""

    def __init__(self, log: RequestLog, meter: Meter, limiting: Limiting, why_nobody: Callable[[], str]) -> None:
        """`why_nobody` says why no replica was asked, where none was."""
        self._log = log
        self._meter = meter
        self._limiting = limiting
        self._why_nobody = why_nobody
        self.prompts = False  # whether the log tells what was asked
        self.tracing: Tracing | None = None
        self._ended: list[Ended] = []

    def add(self, ended: Ended) -> None:
        """Note that a request is over."""
        if not self._ended:
            asyncio.get_running_loop().call_soon(self._follow_up)
        self._ended.append(ended)

    def write(self, lines: list[RequestLine]) -> None:
        """Write lines to the log."""
        self._log.write(lines)
        self._meter.log_lines_dropped = self._log.dropped

    def _follow_up(self) -> None:
        ended, self._ended = self._ended, []
        at = datetime.now(UTC)
        why_nobody, prompts = self._why_nobody(), self.prompts
        lines = [
            line_of(one.exchange, at, one.status, one.duration_s, why_nobody=why_nobody, prompts=prompts)
            for one in ended
        ]
        self.write(lines)
        for one, line in zip(ended, lines, strict=True):
            self._limiting.settle(one.exchange)
            if self.tracing is not None and one.exchange.trace is not None:
                self.tracing.ended(one.exchange.trace, line, one.exchange.booked)
            one.exchange.let_go()
