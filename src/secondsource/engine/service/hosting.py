"""One engine as a process: its HTTP server and its thread, from the first listening to a clean end."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator

import msgspec
import uvicorn
from starlette.middleware.trustedhost import TrustedHostMiddleware

from secondsource.core.addresses import is_loopback
from secondsource.core.errors import InputError
from secondsource.engine.service.load_metrics import LoadMetrics
from secondsource.engine.service.prompting import Prompter, Template, TextTokenizer
from secondsource.engine.service.server import Api
from secondsource.engine.service.serving import Serving
from secondsource.engine.service.stepping import Stepper

_GRACE_S = 30  # for answers that run when a stop is asked for


class Hosted(msgspec.Struct, frozen=True, kw_only=True):
    """What is served, and where; `port` 0 takes any free one."""

    model: str
    stepper: Stepper
    slots: int
    context_tokens: int
    tokenizer: TextTokenizer
    template: Template | None
    host: str = "127.0.0.1"
    port: int = 0


async def host(hosted: Hosted, on_ready: Callable[[str], None], stop: asyncio.Event) -> None:
    """Serve until `stop` is set, telling the address once it listens; raises what broke the engine.

    Raises InputError for an address that is not this machine's own, or is taken.
    """
    listener = _listen(hosted.host, hosted.port)
    url = f"http://{hosted.host}:{listener.getsockname()[1]}"
    metrics = LoadMetrics(hosted.model, cache_tokens=hosted.slots * hosted.context_tokens)
    serving = Serving(hosted.stepper, metrics, slots=hosted.slots)
    api = Api(
        model=hosted.model,
        context_tokens=hosted.context_tokens,
        tokenizer=hosted.tokenizer,
        prompter=Prompter(hosted.tokenizer, hosted.template, hosted.context_tokens),
        serving=serving,
        metrics=metrics,
    )
    server = _Server(api, hosted.host, lambda: on_ready(url))
    stepping = asyncio.create_task(serving.run())
    answering = asyncio.create_task(server.serve([listener]))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({stepping, answering, stopping}, return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        await answering
        if stepping.done():
            await stepping  # it ends by itself only when it has failed
    finally:
        for task in (stopping, answering, stepping):
            task.cancel()
        await asyncio.gather(stepping, answering, stopping, return_exceptions=True)


@contextlib.contextmanager
def stopping_on_signals(stop: asyncio.Event) -> Iterator[None]:
    """Set `stop` at SIGINT or SIGTERM; inside a running event loop."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


class _Server(uvicorn.Server):
    """uvicorn's server, without its own signal handlers, that tells when it listens."""

    def __init__(self, api: Api, host: str, on_ready: Callable[[], None]) -> None:
        # Else any web page could have its reader's browser ask, through a name that it points here.
        guarded = TrustedHostMiddleware(api.application(), allowed_hosts=[host, "127.0.0.1", "localhost"])
        super().__init__(
            uvicorn.Config(
                guarded,
                lifespan="off",
                log_level="warning",
                access_log=False,
                timeout_graceful_shutdown=_GRACE_S,
            )
        )
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to whoever runs us."""
        yield


def _listen(host: str, port: int) -> socket.socket:
    if not is_loopback(host):
        raise InputError(f"--host {host}: the engine has no keys, so it listens on this machine's own addresses only")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise InputError(f"{host}:{port} cannot be listened on: {error.strerror}; choose another --port") from error
    return listener
