"""The coordinator of several workers: it answers no client, and owns what there is one of.

That is the ledger, which absorbs every worker's journal; the admin listener; the probes and the circuits; and the
limits of keys and tenants, of which it lends slices. It serves like a `Service` of one process, for whoever starts it.
"""

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from random import Random

from secondsource.core.fleet import Fleet
from secondsource.gateway.admin.application import MakeConsole, Shown
from secondsource.gateway.fleet_clients import FleetClients
from secondsource.gateway.listening import bind, url_of
from secondsource.gateway.meter import Meter
from secondsource.gateway.office import Office
from secondsource.gateway.parity_verdicts import ParityVerdicts
from secondsource.gateway.workers import gathering
from secondsource.gateway.workers import messages as said
from secondsource.gateway.workers.board import Places, new_board
from secondsource.gateway.workers.circuits import SharedCircuits, name_of
from secondsource.gateway.workers.counts import Counts, add_up, at_the_end, copy_of, show
from secondsource.gateway.workers.crew import Crew
from secondsource.gateway.workers.post import Post
from secondsource.policy import leases
from secondsource.policy.routing import Router
from secondsource.policy.views import FlowView, LaneView, ReplicaView, RequestView, SupplierView, WorkerView, view_of

CIRCUITS_S = 0.05  # between two looks at what the probes found
HOUSEKEEPING_S = 1.0
ANSWER_S = 1.0  # a worker that is busy for longer is shown as it stood last
RELOAD_S = 10.0
SETTLING_PART = 0.1  # of the time for a stop, up to so many seconds: for the books
SETTLING_S = 2.0


class Coordinator:
    """Several workers as one gateway."""

    def __init__(
        self,
        fleet: Fleet,
        secrets: Mapping[str, str],
        make_console: MakeConsole | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        self.fleet = fleet
        self.gateway_url = ""
        self.meter = Meter(fleet.models, tuple(lane.name for lane in fleet.lanes))
        self.router = Router(fleet, Random(os.urandom(16)))  # noqa: S311 -- spreads probes, keeps no secret
        self._secrets = dict(secrets)
        self._make_console = make_console
        self._clients = FleetClients(fleet, secrets, self.router)
        self._office = Office(fleet, self._clients)
        self._parity = ParityVerdicts(fleet)
        self._parity.refresh(self.router)
        self._circuits = SharedCircuits(self.router)
        self._leases = leases.Coordinator(fleet.keys, fleet.tenants, fleet.workers)
        self._board, self._places = new_board(fleet.workers), Places()
        self._crew = Crew(fleet.workers, self._board.descriptor, self._heard, self._prepare, self._left, say)
        self._ended: list[Counts] = []  # of workers that are gone: at most one, their sum
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def admin_url(self) -> str:
        """The base URL of the admin listener, once it has its port."""
        return self._office.admin_url

    # -- starting and stopping

    async def start(self) -> None:
        """Bind both listeners, open the ledger, start probing and the workers; raises InputError, SecondsourceError."""
        await self._office.books.start()
        try:
            self._leases.replay(await self._office.books.used_so_far())
            await self._office.open()
            host = self.fleet.gateway.host
            sockets = await bind(host, self.fleet.gateway.port, self.fleet.workers)
            self.gateway_url = url_of(host, sockets[0][0].getsockname()[1])
            await self._crew.start(sockets)
            await self._office.show(self._shown())
        except BaseException:
            await self._crew.stop(0.0)
            await self._close()
            raise
        self._tasks = [
            asyncio.create_task(self._keep_circuits(), name="circuits"),
            asyncio.create_task(self._keep_house(), name="housekeeping"),
        ]

    async def stop(self, grace: float) -> None:
        """Have the workers end what they answer, and settle the books, all within `grace` seconds."""
        await self._crew.stop(grace - min(grace * SETTLING_PART, SETTLING_S))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._close()

    async def reload(self, fleet: Fleet, secrets: Mapping[str, str]) -> None:
        """Have every worker serve another fleet from now on; see `Service.reload`."""
        self.fleet, self._secrets = fleet, dict(secrets)
        self.router.reload(fleet)
        self._parity = ParityVerdicts(fleet)
        self._parity.refresh(self.router)
        self._clients.reload(fleet, secrets)
        self._leases.reload(fleet.keys, fleet.tenants)
        self._circuits.reload()
        places = self._replicas_places()

        def make(number: int) -> said.Message:
            return said.Reload(number=number, fleet=fleet, secrets=self._secrets, places=places)

        asked = [post.ask(make, said.Done, RELOAD_S) for post in self._crew.posts]
        await asyncio.gather(*asked)
        await self._office.reload(fleet, self._shown())

    async def _close(self) -> None:
        await self._office.close()
        self._clients.close()
        await self._office.books.stop()
        self._board.close()

    # -- the workers

    def _prepare(self, post: Post) -> None:
        """Say to a new process all that it has to know, and have it begin."""
        self._circuits.joined(post.number)
        post.say(
            said.Welcome(
                worker=post.number,
                workers=len(self._crew.posts),
                fleet=self.fleet,
                secrets=self._secrets,
                unplugged=self.router.unplugged,
                places=self._replicas_places(),
            )
        )
        self._tell(self._circuits.news(time.monotonic()))
        post.say(said.Begin())

    def _left(self, post: Post) -> None:
        """Keep what a process that is gone had counted; its journal is the ledger's to read."""
        self._circuits.left(post.number)
        self._board.wipe(post.number)
        if post.told is not None:
            self._ended.append(at_the_end(post.told.counts))
            post.told = None

    def _replicas_places(self) -> list[tuple[said.ReplicaName, int]]:
        return self._places.of([name_of(replica) for replica in self.router.replicas])

    def _heard(self, post: Post, message: said.FromWorker) -> None:
        if isinstance(message, said.Witness):
            self._tell(self._circuits.heard(post.number, message, time.monotonic()))
        elif isinstance(message, said.Want):
            post.say(said.Slices(number=message.number, slices=self._grant(message)))
        elif isinstance(message, said.Ready):
            self._crew.serves(post)
        elif isinstance(message, said.Leaving):
            self._crew.leaves(post)

    def _grant(self, want: said.Want) -> list[leases.Slice]:
        now, mine = time.time(), self._leases
        for given in want.given_back:
            if mine.knows(given.id):
                mine.take_back(given, now)
        return [mine.grant(meter_id, least, now) for meter_id, least in want.wants if mine.knows(meter_id)]

    def _tell(self, all_said: list[tuple[int, said.Stand]]) -> None:
        for worker, stand in all_said:
            self._crew.posts[worker - 1].say(stand)

    async def _keep_circuits(self) -> None:
        while True:
            self._tell(self._circuits.news(time.monotonic()))
            await asyncio.sleep(CIRCUITS_S)

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(HOUSEKEEPING_S)
            self._clients.close_drained()
            self._parity.refresh(self.router)
            await self._gather()
            self._crew.kill_silent()

    # -- what the admin listener shows

    def _shown(self) -> Shown:
        return Shown(
            fleet=self.fleet,
            meter=self.meter,
            books=self._office.books,
            replicas=self.replica_views,
            running=self.running,
            flows=self.flows,
            lanes=self.lane_views,
            suppliers=self.supplier_views,
            workers=self.worker_views,
            plug=self.plug,
            refresh=self._gather,
            make_console=self._make_console,
            gateway_url=self.gateway_url,
            admin_url=self.admin_url,
        )

    async def _gather(self) -> None:
        """Have every worker tell how it stands."""
        posts = self._crew.posts
        answers = await asyncio.gather(
            *(post.ask(lambda number: said.Tell(number=number), said.Told, ANSWER_S) for post in posts)
        )
        for post, told in zip(posts, answers, strict=True):
            post.told = told or post.told
        if len(self._ended) > 1:
            self._ended = [copy_of(add_up(self._ended))]
        show(add_up([*self._ended, *(told.counts for told in self._told)]), self.meter)

    @property
    def _told(self) -> list[said.Told]:
        return [post.told for post in self._crew.posts if post.told is not None]

    def replica_views(self) -> list[ReplicaView]:
        """Return every replica as it stands, over all workers."""
        now = time.monotonic()
        return gathering.replicas([view_of(replica, now) for replica in self.router.replicas], self._told)

    def lane_views(self) -> list[LaneView]:
        """Return every model's lanes as they stand, over all workers."""
        return gathering.lanes(self._told)

    def supplier_views(self) -> list[SupplierView]:
        """Return every supplier's part of the spend."""
        return gathering.suppliers(self._told)

    def worker_views(self) -> list[WorkerView]:
        """Return how each worker stood last."""
        return [post.view() for post in self._crew.posts]

    def flows(self) -> list[FlowView]:
        """Return what is being answered, by lane and pool."""
        return gathering.flows(self._told)

    async def running(self, request_id: str) -> RequestView | None:
        """Return a request that a worker is answering, or None."""
        found = await asyncio.gather(
            *(
                post.ask(lambda number: said.Find(number=number, request_id=request_id), said.Found, ANSWER_S)
                for post in self._crew.posts
            )
        )
        return next((one.request for one in found if one is not None and one.request is not None), None)

    async def plug(self, supplier: str, plugged: bool) -> int:
        """Take a supplier away from all workers, or put it back; returns how many attempts were cut."""
        self.router.plug(supplier, plugged=plugged)
        done = await asyncio.gather(
            *(
                post.ask(
                    lambda number: said.Plug(number=number, supplier=supplier, plugged=plugged), said.Done, ANSWER_S
                )
                for post in self._crew.posts
            )
        )
        return sum(one.count for one in done if one is not None)
