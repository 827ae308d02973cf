"""One worker: a service that answers clients, in a process of its own, started and told by the coordinator.

`python -m secondsource.gateway.workers.worker CHANNEL BOARD 1:SOCKET 2:SOCKET,SOCKET ...`: descriptors that it
inherits, the listening sockets by the worker whose they are.
"""

import asyncio
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

import msgspec
import uvloop

from secondsource.gateway.books.journal_end import WorkerBooks
from secondsource.gateway.garbage import collect_in_short_passes
from secondsource.gateway.limiting import LimitsSource
from secondsource.gateway.place import ProcessBooks
from secondsource.gateway.service import Service
from secondsource.gateway.workers import messages as said
from secondsource.gateway.workers.board import Board, Reads, Tally
from secondsource.gateway.workers.channel import Channel
from secondsource.gateway.workers.circuits import name_of, take
from secondsource.gateway.workers.counts import copy_of
from secondsource.gateway.workers.lease_desk import TICK_S, LeaseDesk
from secondsource.policy.accounting import SharedClock
from secondsource.policy.limits import MeterFactory
from secondsource.policy.routing import Router
from secondsource.policy.shared_circuit import Seen, SharedCircuit
from secondsource.policy.worker_share import share_of

CLOCKS_S = 0.05


class WorkersPlace:
    """What this worker is given: see `gateway.place.Place`."""

    def __init__(self, welcome: said.Welcome, sockets: Sequence[socket.socket], worker: "Worker") -> None:
        self.number = welcome.worker
        self.books: ProcessBooks = WorkerBooks(Path(welcome.fleet.state_dir), welcome.worker)
        self.sockets = sockets
        self.limits_source: LimitsSource = worker.leases
        self.make_meter: MeterFactory = worker.leases.make
        self.guests = worker.board.guests(welcome.worker)
        self.places = dict(welcome.places)
        self._worker = worker
        self._random = Random(os.urandom(16))  # noqa: S311 -- spreads probes, keeps no secret

    def share_circuits(self, router: Router) -> None:
        """Have new replicas' circuits tell what they see, and what they have to read and to do be all workers'."""
        for replica in router.replicas:
            if not isinstance(replica.circuit, SharedCircuit):
                name = name_of(replica)
                replica.circuit = self._circuit(name)
                place = self.places.get(name)
                if place is not None:
                    replica.share(Tally(self._worker.board, self.number, place))
                    replica.reading.share(Reads(self._worker.board, self.number, place))

    def _circuit(self, name: said.ReplicaName) -> SharedCircuit:
        def tell(seen: Seen) -> None:
            self._worker.say(said.Witness(replica=name, seen=seen))

        return SharedCircuit(self._random, tell)


class Worker:
    """Does what the coordinator says, one message after another."""

    def __init__(self, board: int, sockets: Mapping[int, Sequence[socket.socket]]) -> None:
        self.board = Board(board, len(sockets))
        self.leases = LeaseDesk(self.say)
        self._sockets = sockets
        self._messages: asyncio.Queue[said.FromCoordinator] = asyncio.Queue()  # bounded by what is asked of a worker
        self._channel: Channel[said.FromCoordinator] = Channel(
            msgspec.msgpack.Decoder(said.FromCoordinator), self._messages.put_nowait, self._lost
        )
        self._welcome: said.Welcome | None = None
        self._service: Service | None = None
        self._place: WorkersPlace | None = None
        self._serving = False
        self._stop = asyncio.Event()
        self._grace_s: float | None = None

    async def run(self, channel: socket.socket) -> None:
        """Serve until told to stop, or until the coordinator is gone."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._terminated)
        await loop.create_unix_connection(lambda: self._channel, sock=channel)
        tasks = [
            asyncio.create_task(self._listen()),
            asyncio.create_task(self._keep_leases()),
            asyncio.create_task(self._keep_clocks()),
        ]
        stopped = asyncio.create_task(self._stop.wait())
        await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for some in self._sockets.values():
            for one in some:
                one.close()
        if self._service is not None and self._serving:
            grace_s = self._service.fleet.timeouts.grace if self._grace_s is None else self._grace_s
            await self._service.stop(grace_s)
        for task in (stopped, *tasks):
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result
        self._channel.close()

    def say(self, message: said.Message) -> bool:
        """Tell the coordinator; returns whether it is there."""
        self._channel.send(message)
        return self._channel.open

    def _lost(self) -> None:
        self.leases.lost()
        self._stop.set()

    def _terminated(self) -> None:
        """Leave, as somebody said so to this process alone; what runs here ends, and another takes the place."""
        self.say(said.Leaving())
        self._stop.set()

    async def _listen(self) -> None:
        while True:
            message = await self._messages.get()
            if isinstance(message, said.Welcome):
                self._enter(message)
            elif self._service is not None and self._welcome is not None:
                await self._do(message, self._service, self._welcome)

    def _enter(self, welcome: said.Welcome) -> None:
        self._welcome = welcome
        self._place = place = WorkersPlace(welcome, self._sockets[welcome.worker], self)
        fleet = share_of(welcome.fleet, welcome.worker, welcome.workers)
        self._service = service = Service(fleet, welcome.secrets, place=place)
        for supplier in welcome.unplugged:
            service.router.plug(supplier, plugged=False)

    async def _do(self, message: said.FromCoordinator, service: Service, welcome: said.Welcome) -> None:
        if isinstance(message, said.Slices):
            self.leases.granted(message)
        elif isinstance(message, said.Stand):
            take(service.router, message, time.monotonic())
        elif isinstance(message, said.Tell):
            self.say(_told(message.number, service))
        elif isinstance(message, said.Find):
            self.say(said.Found(number=message.number, request=await service.running(message.request_id)))
        elif isinstance(message, said.Begin):
            await service.start()
            self._serving = True
            collect_in_short_passes()
            self.say(said.Ready())
        elif isinstance(message, said.Plug):
            cut = await service.plug(message.supplier, message.plugged)
            self.say(said.Done(number=message.number, count=cut))
        elif isinstance(message, said.Reload):
            if self._place is not None:
                self._place.places = dict(message.places)
            await service.reload(share_of(message.fleet, welcome.worker, welcome.workers), message.secrets)
            self.say(said.Done(number=message.number))
        elif isinstance(message, said.Adopt):
            if not message.adopted:
                service.listening.leave(message.worker)
            elif not self._stop.is_set():
                await service.listening.accept_on(message.worker, self._sockets[message.worker])
        elif isinstance(message, said.Stop):
            self._grace_s = message.grace_s
            self._stop.set()

    async def _keep_leases(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self.leases.tick(time.time())

    async def _keep_clocks(self) -> None:
        while True:
            await asyncio.sleep(CLOCKS_S)
            now_ns = time.monotonic_ns()
            for replica in () if self._service is None else self._service.router.replicas:
                if replica.in_flight and isinstance(replica.clock, SharedClock):
                    replica.clock.tick(now_ns)


def _told(number: int, service: Service) -> said.Told:
    return said.Told(
        number=number,
        counts=copy_of(service.meter),
        replicas=service.replica_views(),
        lanes=service.lane_views(),
        suppliers=service.supplier_views(),
        cpu_s=time.process_time(),
        resident_bytes=_resident_bytes(),
        journal_refusing=service.books.refusing,
        flows=service.flows(),
    )


def _resident_bytes() -> int:
    """Return the memory that this process holds, or 0 where the kernel has no /proc to say so."""
    try:
        pages = Path("/proc/self/statm").read_text("ascii").split()[1]
    except OSError:
        return 0
    return int(pages) * resource.getpagesize()


def main(arguments: Sequence[str]) -> int:
    """Run a worker on the descriptors that are named; returns 0."""
    # To the whole terminal's group: the coordinator takes these, and tells us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    channel = socket.socket(fileno=int(arguments[0]))
    sockets = {}
    for argument in arguments[2:]:
        owner, _, descriptors = argument.partition(":")
        sockets[int(owner)] = [socket.socket(fileno=int(one)) for one in descriptors.split(",")]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(Worker(int(arguments[1]), sockets).run(channel))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
