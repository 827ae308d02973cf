"""Runs the gateway, and the sources it needs, until a signal says stop."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Container, Coroutine, Iterator, Mapping

import msgspec

from secondsource.cli.screen import Screen
from secondsource.cli.up_text import ServedAt, SourceLine, welcome
from secondsource.core.errors import InputError
from secondsource.core.fleet import Fleet
from secondsource.core.fleet_checks import require_reloadable
from secondsource.embedded.supervisor import SourceChange, SourceSpec, SourceState, Supervisor
from secondsource.gateway.garbage import collect_in_short_passes
from secondsource.gateway.service import Service
from secondsource.gateway.workers.coordinator import Coordinator
from secondsource.policy.circuit import CircuitState
from secondsource.policy.replica import Replica

_STARTING = "is starting; the others serve meanwhile"
_STATES = {
    CircuitState.CLOSED: "serves",
    CircuitState.HALF_OPEN: "coming back",
    CircuitState.OPEN: "does not answer; it is asked again and again",
}


Gateway = Service | Coordinator


class Serving(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that one run of `up` serves with."""

    fleet: Fleet
    make_service: Callable[[], Gateway]  # called inside the event loop
    show: Callable[[str], None]
    reread: Callable[[], tuple[Fleet, Mapping[str, str]]] | None = None  # the fleet file as it is now, and its secrets
    sources: tuple[SourceSpec, ...] = ()
    ready_within_s: float = 60.0
    small_model: bool = False


async def serve(serving: Serving, screen: Screen) -> int:
    """Serve until SIGINT or SIGTERM, then stop cleanly; a second signal stops at once. Returns 0.

    SIGHUP reads the fleet file again, where there is one.
    """
    stop, reload = asyncio.Event(), asyncio.Event()
    watch = _SourceWatch(screen)
    supervisor = Supervisor(serving.sources, watch.on_change, ready_within_s=serving.ready_within_s)
    with _stopping_on_signals(stop, serving.fleet.timeouts.grace, screen), _reloading_on_hangup(serving, reload):
        async with contextlib.AsyncExitStack() as running:
            if await _finished_before(stop, _start(serving, supervisor, watch, reload, running, screen)):
                await stop.wait()
        screen.say("Stopped.")
    return 0


async def _start(
    serving: Serving,
    supervisor: Supervisor,
    watch: "_SourceWatch",
    reload: asyncio.Event,
    running: contextlib.AsyncExitStack,
    screen: Screen,
) -> None:
    if serving.sources:
        # Stopped after the service: answers that still run need them.
        running.push_async_callback(supervisor.stop)
        with screen.step(f"Starting {len(serving.sources)} sources on this machine …"):
            await supervisor.start()
    service = serving.make_service()
    with screen.step("Asking each replica whether it is there …"):
        await service.start()
    running.push_async_callback(_stop, service)
    watch.service = service
    if serving.reread is not None:
        reloading = asyncio.create_task(_keep_reloading(reload, service, serving.reread, screen), name="reload")
        running.callback(reloading.cancel)
    collect_in_short_passes()
    lines = [
        SourceLine(pool=replica.pool, replica=replica.url, state=_state_of(replica, supervisor.starting))
        for replica in service.router.replicas
    ]
    served = ServedAt(gateway_url=service.gateway_url, admin_url=service.admin_url)
    serving.show(welcome(serving.fleet, served, lines, small_model=serving.small_model))


async def _stop(service: Gateway) -> None:
    await service.stop(service.fleet.timeouts.grace)


def _state_of(replica: Replica, starting: Container[str]) -> str:
    state = _STARTING if replica.pool.name in starting else _STATES[replica.circuit.state]
    return state if replica.state.admitted else f"{state}; no traffic until at par: secondsource parity --help"


async def _finished_before(stop: asyncio.Event, work: Coroutine[None, None, None]) -> bool:
    """Run `work` unless `stop` comes first; then cancel it and return False. Its errors are raised."""
    working = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            return False
        await working
        return True
    finally:
        for task in (working, stopping):
            task.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)


@contextlib.contextmanager
def _reloading_on_hangup(serving: Serving, reload: asyncio.Event) -> Iterator[None]:
    """Take SIGHUP for a wish to reload, from before there is anything to reload; without a fleet file it ends us."""
    loop = asyncio.get_running_loop()
    if serving.reread is not None:
        loop.add_signal_handler(signal.SIGHUP, reload.set)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


async def _keep_reloading(
    wanted: asyncio.Event, service: Gateway, reread: Callable[[], tuple[Fleet, Mapping[str, str]]], screen: Screen
) -> None:
    while True:
        await wanted.wait()
        wanted.clear()
        try:
            fleet, secrets = reread()
            require_reloadable(service.fleet, fleet, "the fleet file")
        except InputError as error:
            screen.say(f"The fleet file was not taken; everything stays as it was.\n{error}")
            continue
        before = {pool.name for pool in service.fleet.pools}
        await service.reload(fleet, secrets)
        screen.say(_reloaded(before, {pool.name for pool in fleet.pools}))


def _reloaded(before: set[str], after: set[str]) -> str:
    changes = [f"{name} is new" for name in sorted(after - before)]
    changes += [f"{name} gets no more requests, and goes when it has answered" for name in sorted(before - after)]
    return f"The fleet file was read again. {'; '.join(changes) or 'The same pools serve'}."


@contextlib.contextmanager
def _stopping_on_signals(stop: asyncio.Event, grace_s: float, screen: Screen) -> Iterator[None]:
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stop.is_set():
            # At once, as asked. The journal is written to outlive this, and the sources end with our pipes.
            os._exit(130)
        stop.set()
        screen.say(f"Stopping: running answers have up to {grace_s:g} s; Ctrl-C again stops at once.")

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


class _SourceWatch:
    """Tells of the sources' deaths and recoveries, and has the gateway look at once at one that serves."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._started: set[str] = set()
        self.service: Gateway | None = None  # once there is one

    def on_change(self, change: SourceChange) -> None:
        """Take a change; a first start before the gateway serves, and the last stop, are told elsewhere."""
        if change.state is SourceState.DIED:
            self._screen.say(f"{change.name} {change.detail}.")
        elif change.state is SourceState.FAILED:
            self._screen.say(f"{change.detail}\nThe other source serves alone.")
        elif change.state is SourceState.READY:
            self._ready(change)

    def _ready(self, change: SourceChange) -> None:
        if self.service is not None:
            again = "again " if change.name in self._started else ""
            self._screen.say(f"{change.name} serves {again}at {change.detail}.")
            for replica in self.service.router.replicas:
                if replica.pool.name == change.name:
                    replica.circuit.announced(time.monotonic())
        self._started.add(change.name)
