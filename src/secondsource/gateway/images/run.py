"""A job that runs here, and those who wait for it.

The run takes the answer of one exchange in a client's place. Whoever waits gets the same bytes from the beginning,
each at its own pace: what has come is kept once, for all of them.
"""

import time
from typing import Protocol

from secondsource.gateway.client import Lines
from secondsource.gateway.exchange import Exchange
from secondsource.gateway.images.asker import Watchers, Wish
from secondsource.gateway.images.store import Answer
from secondsource.gateway.wire.image_events import PARTIAL
from secondsource.policy.image_jobs import Job

_PARTIAL = PARTIAL.encode()


class Runs(Watchers, Protocol):
    """Who keeps account of runs."""

    def ended(self, run: "Run", status: int, body: bytes, answer: Answer | None) -> None:
        """Note that a run has its answer or has failed; those who wait are told once this returns."""


class Run:
    """A job's exchange, and what has come of it."""

    def __init__(self, job: Job, runs: Runs) -> None:
        self.job = job
        self.exchange: Exchange | None = None
        self.wishes: list[Wish] = []
        self.left_at = time.monotonic()  # since when nobody waits
        self.partial_images = 0
        self.over = False
        self._runs = runs
        self._headers: Lines = []
        self._content_type = b""
        self._pieces: list[bytes] = []
        self._streaming = False
        self._whole: tuple[int, bytes] | None = None  # status and body of an answer that is not streamed
        self._sound = True  # the stream was not broken off

    # -- what the exchange says

    def respond(self, status: int, body: bytes, headers: Lines, content_type: bytes = b"application/json") -> None:
        """Take a whole answer."""
        self._headers, self._content_type, self._whole = headers, content_type, (status, body)
        self._end(status, body)

    def start_stream(self, headers: Lines, content_type: bytes, data: bytes) -> None:
        """Take the beginning of a streamed answer."""
        self._streaming = True
        self._headers, self._content_type = headers, content_type
        self.send(data)

    def send(self, data: bytes) -> None:
        """Take the next bytes of a streamed answer."""
        if data:
            self._pieces.append(data)
            self.partial_images += data.count(b'"' + _PARTIAL + b'"')
        for wish in list(self.wishes):
            self.catch_up(wish)

    def chunk_writer(self) -> None:
        """Say that nothing leaves past this run, which keeps it for those who join."""

    def end_stream(self, data: bytes, *, keep: bool = True) -> None:
        """Take the last bytes of a streamed answer."""
        self._sound = keep
        if data:
            self._pieces.append(data)
        self._end(200 if keep else 502, b"" if keep else data.removeprefix(b"data: ").strip())

    def abort(self) -> None:
        """Cut everybody off after a fault of our own."""
        self._sound = False
        self._streaming = True
        self._end(500, b"", aborted=True)

    def _end(self, status: int, body: bytes, *, aborted: bool = False) -> None:
        if self.over:
            return
        self.over = True
        answer = None
        if status == 200:
            kept = [header for header in self._headers if header[0].startswith(b"x-secondsource-")]
            answer = Answer(self._content_type, kept, b"".join(self._pieces) if self._streaming else body)
        self._runs.ended(self, status, body, answer)
        for wish in list(self.wishes):
            if aborted:
                wish.connection.abort()
            else:
                self.catch_up(wish)

    def abandon(self) -> None:
        """Leave the replica because this process stops; what comes now is no end of the job."""
        self.over = True
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.interrupted()

    def cancel(self) -> None:
        """Leave the replica because nobody has come back for the images."""
        if self.exchange is not None:
            self.exchange.client_gone()
        self._end(499, b"")

    # -- who waits

    def join(self, wish: Wish) -> None:
        """Let a client wait, and give it what has come."""
        wish.run, wish.watchers = self, self._runs
        self.wishes.append(wish)
        self.catch_up(wish)

    def leave(self, wish: Wish) -> None:
        """Let a client go."""
        if wish in self.wishes:
            self.wishes.remove(wish)
        wish.run = wish.watchers = None
        self.left_at = time.monotonic()

    def catch_up(self, wish: Wish) -> None:
        """Give a client what it has not got, if it keeps up."""
        job_id = self.job.job_id
        if self._whole is not None:
            status, body = self._whole
            self._answered(wish, status)
            wish.connection.respond(status, body, wish.lines(self._headers, job_id), self._content_type)
            return
        if not self._streaming or not wish.ready:
            return
        if not wish.streaming:
            wish.streaming = True
            wish.connection.start_stream(wish.lines(self._headers, job_id), self._content_type, b"")
        data = b"".join(self._pieces[wish.sent :])
        wish.sent = len(self._pieces)
        if self.over:
            self._answered(wish, 200 if self._sound else 502)
            wish.connection.end_stream(data, keep=self._sound)
        elif data:
            wish.connection.send(data)

    def _answered(self, wish: Wish, status: int) -> None:
        self.leave(wish)
        self._runs.answered(wish, self.job.job_id, status)
