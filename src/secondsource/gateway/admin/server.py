"""Serves the admin application inside the running event loop: no signal handlers, no access log."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from secondsource.core.errors import InputError

STOP_WITHIN_S = 2


class AdminServer:
    """The admin listener; `port` is the bound one, also when 0 was asked for."""

    def __init__(self, host: str, port: int) -> None:
        """Bind; raises InputError when that cannot be."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._socket = socket.create_server((host, port), family=family)
        except OSError as error:
            raise InputError(
                f"the admin listener cannot listen on {host}:{port}: {error.strerror}; choose another port with "
                "--admin-port or [admin] port"
            ) from error
        self.port: int = self._socket.getsockname()[1]
        self._app: ASGIApp | None = None
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self._streams: set[asyncio.Task[None]] = set()  # answers that have begun to leave
        self._stopping = False

    def show(self, app: ASGIApp) -> None:
        """Answer with another application from the next request on."""
        self._app = app

    async def start(self, app: ASGIApp) -> None:
        """Begin to serve."""
        self.show(app)
        config = uvicorn.Config(
            self._answer,
            interface="asgi3",
            loop="none",
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=STOP_WITHIN_S,
        )
        self._server = _Server(config)
        self._serving = asyncio.create_task(self._server.serve([self._socket]), name="admin listener")
        ready = asyncio.ensure_future(self._server.ready.wait())
        await asyncio.wait({ready, self._serving}, return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            ready.cancel()
            await self._serving  # raises what went wrong

    async def stop(self) -> None:
        """Finish what is being answered, within two seconds, and close; streams for those who watch end at once."""
        self._stopping = True
        for stream in list(self._streams):
            stream.cancel()
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            await self._serving
        self._socket.close()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self._app is not None
        task: asyncio.Task[None] | None = asyncio.current_task()
        assert task is not None

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._streams.add(task)
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except asyncio.CancelledError:
            if not self._stopping or task not in self._streams:
                raise
            # Ended as an answer is: neither whoever watches nor the log has to hear of an error.
            task.uncancel()
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._streams.discard(task)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to whoever runs the loop."""
        yield
