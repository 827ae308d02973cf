"""A client that has asked something of image jobs, as its connection sees it."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Protocol

from secondsource.gateway.authentication import Principal
from secondsource.gateway.client import ClientConnection, Lines
from secondsource.gateway.wire.request import Ask

JOB_HEADER = b"x-secondsource-job"


class Asker:
    """A client, and the answer that is looked up for it."""

    def __init__(self, connection: ClientConnection, principal: Principal, request_id: str, path: str) -> None:
        self.connection = connection
        self.principal = principal
        self.request_id = request_id
        self.path = path
        self.started = time.monotonic()
        self._reading: asyncio.Task[None] | None = None

    def read(self, reading: Coroutine[None, None, None]) -> None:
        """Look an answer up without holding up others; given up when the client leaves."""
        self._reading = asyncio.get_running_loop().create_task(reading)

    def client_gone(self) -> None:
        """Note that the client has left."""
        if self._reading is not None:
            self._reading.cancel()

    def client_reads(self, *, ready: bool) -> None:
        """Note whether the client keeps up."""

    def lines(self, headers: Lines, job_id: str) -> Lines:
        """Return an answer's headers as they are for this client."""
        kept = [header for header in headers if header[0] != b"x-request-id"]
        return [(b"x-request-id", self.request_id.encode()), *kept, (JOB_HEADER, job_id.encode())]


class Streamed(Protocol):
    """A run, to a client that reads from it."""

    def catch_up(self, wish: "Wish") -> None:
        """Give a client what it has not got."""


class Watchers(Protocol):
    """Who keeps account of those who wait."""

    def left(self, wish: "Wish") -> None:
        """Note that a client has left."""

    def answered(self, wish: "Wish", job_id: str, status: int) -> None:
        """Note that a client is answered."""


class Wish(Asker):
    """A request for images, and the client that waits for it."""

    def __init__(
        self,
        connection: ClientConnection,
        ask: Ask,
        principal: Principal,
        request_id: str,
        headers: dict[bytes, bytes],
        body: bytes,
    ) -> None:
        super().__init__(connection, principal, request_id, ask.path)
        self.ask = ask
        self.headers = headers
        self.body = body
        self.is_first = False  # the run has its request's id, and is logged under it
        self.run: Streamed | None = None
        self.watchers: Watchers | None = None
        self.ready = True  # the client keeps up
        self.streaming = False
        self.sent = 0  # pieces of the run's stream

    def client_gone(self) -> None:
        """Leave the job, which runs on."""
        super().client_gone()
        if self.watchers is not None:
            self.watchers.left(self)

    def client_reads(self, *, ready: bool) -> None:
        """Note whether the client keeps up; the job does not wait for it."""
        self.ready = ready
        if ready and self.run is not None:
            self.run.catch_up(self)
