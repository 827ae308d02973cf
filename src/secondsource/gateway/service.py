"""The service: both listeners, and everything that exchanges share. Owns what starts and stops with the process."""

import asyncio
import logging
import os
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from random import Random

import msgspec

from secondsource.core.fleet import Fleet
from secondsource.core.records import LedgerRecord, Reserved, Settled
from secondsource.gateway import tracing
from secondsource.gateway.admin.application import MakeConsole, Shown
from secondsource.gateway.attempts.attempt import Attempt
from secondsource.gateway.authentication import NOBODY, Authentication, Principal
from secondsource.gateway.client import ClientConnection, Lines, Request
from secondsource.gateway.connections import Connections
from secondsource.gateway.endings import Ended, Endings
from secondsource.gateway.entrance import Entrance
from secondsource.gateway.exchange import Exchange, Observer
from secondsource.gateway.feedback import Feedback
from secondsource.gateway.fleet_clients import FleetClients
from secondsource.gateway.forwarding import forwarded_lines
from secondsource.gateway.images.asker import Asker, Wish
from secondsource.gateway.images.job_answers import JOBS_PATH
from secondsource.gateway.images.jobs import ImageJobs
from secondsource.gateway.images.recording import Recording
from secondsource.gateway.limiting import Limiting
from secondsource.gateway.listening import Listening, bind, url_of
from secondsource.gateway.meter import Meter
from secondsource.gateway.office import Office
from secondsource.gateway.parity_verdicts import ParityVerdicts
from secondsource.gateway.place import Place, ProcessBooks
from secondsource.gateway.plain_answers import ENDPOINTS, HEALTH_PATHS, PlainAnswers, unknown_model
from secondsource.gateway.pump.pump import Pump, start_pump
from secondsource.gateway.recipient import Recipient
from secondsource.gateway.request_log import RequestLog, short_line
from secondsource.gateway.tracing import start_tracing
from secondsource.gateway.wire.errors import error_body
from secondsource.gateway.wire.request import Ask, Endpoint, RequestError, parse_request
from secondsource.policy.failover import Failover
from secondsource.policy.image_failover import ImageFailover
from secondsource.policy.place_table import PlaceTable
from secondsource.policy.retry_budget import RetryBudget
from secondsource.policy.routing import Router
from secondsource.policy.views import FlowView, LaneView, ReplicaView, RequestView, SupplierView, view_of

SWEEP_S = 0.05
HOUSEKEEPING_S = 1.0
SETTLING_PART = 0.1  # of the time for a stop, up to so many seconds: for the books
SETTLING_S = 2.0
TELL = b"x-secondsource-tell"


class Service(Observer):
    """One gateway process."""

    def __init__(
        self,
        fleet: Fleet,
        secrets: Mapping[str, str],
        make_console: MakeConsole | None = None,
        place: Place | None = None,
    ) -> None:
        self.fleet = fleet
        self.gateway_url = ""
        self._place = place
        self._make_console = make_console
        self.meter = Meter(fleet.models, tuple(lane.name for lane in fleet.lanes))
        chance = Random(os.urandom(16))  # noqa: S311 -- spreads load, keeps no secret
        self.router = Router(fleet, chance, 1 if place is None else place.number)
        self._parity = ParityVerdicts(fleet)
        self._parity.refresh(self.router)
        self.log = RequestLog(Path(fleet.state_dir), worker=0 if place is None else place.number)
        self.exchanges: dict[str, Exchange] = {}
        self._connections = Connections(fleet.timeouts, fleet.limits.request_body)
        self._clients = FleetClients(fleet, secrets, self.router)
        self._budget = RetryBudget(time.monotonic())
        if place is None:
            self._office: Office | None = Office(fleet, self._clients)
            self.books: ProcessBooks = self._office.books
        else:
            self._office, self.books = None, place.books
            place.share_circuits(self.router)
        limiting = Limiting(fleet) if place is None else Limiting(fleet, place.make_meter, place.limits_source)
        self._endings = Endings(self.log, self.meter, limiting, self._why_nobody)
        self._feedback = Feedback(fleet, self.router, self.meter)
        guests = PlaceTable() if place is None else place.guests
        self._entrance = Entrance(fleet, self.router, limiting, self.meter, self._start, guests)
        self._authentication = Authentication(fleet)
        self._plain = PlainAnswers(fleet, self.router, self.books, self._authentication)
        self._images = ImageJobs(Path(fleet.state_dir), fleet, self, Recording(self.meter, self.log))
        self._take_settings()
        self._id_prefix = f"req_{os.urandom(8).hex()}"
        self._ids = 0
        self.listening = Listening(lambda: ClientConnection(self))
        self._tasks: list[asyncio.Task[None]] = []
        self.pump: Pump | None = None

    def _take_settings(self) -> None:
        """Copy out of the fleet what each request asks for."""
        fleet = self.fleet
        self.body_limit = fleet.limits.request_body
        self.header_limit = fleet.limits.request_headers
        self._surroundings = self._clients.surroundings
        self._endings.prompts = fleet.logging.prompts
        self._image_model = fleet.image_model or (fleet.models[0] if len(fleet.models) == 1 else None)

    async def reload(self, fleet: Fleet, secrets: Mapping[str, str]) -> None:
        """Serve another fleet from now on; requests that run go on, at replicas that were removed too.

        What is known of pools and replicas that stay is kept. Listeners, state directory and tracing stay as they
        are: `require_reloadable` says so.
        """
        self.fleet = fleet
        self.meter.know(fleet.models, tuple(lane.name for lane in fleet.lanes))
        self.router.reload(fleet)
        if self._place is not None:
            self._place.share_circuits(self.router)
        self._parity = ParityVerdicts(fleet)
        self._parity.refresh(self.router)
        self._clients.reload(fleet, secrets)
        self._connections.reload(fleet.timeouts, fleet.limits.request_body)
        self._authentication = Authentication(fleet)
        self._plain.reload(fleet, self._authentication)
        self._take_settings()
        self._feedback.reload(fleet)
        self._entrance.reload(fleet)
        self._images.reload(fleet)
        if self._office is not None:
            await self._office.reload(fleet, self._shown(self._office))

    @property
    def admin_url(self) -> str:
        """The base URL of the admin listener, once it has its port; "" in a worker."""
        return "" if self._office is None else self._office.admin_url

    # -- starting and stopping

    async def start(self) -> None:
        """Bind both listeners, open the ledger, start probing; raises InputError for a port that is taken."""
        self._endings.tracing = start_tracing(self.fleet.tracing, os.environ)
        await self.books.start()
        try:
            self._entrance.limiting.replay(await self.books.used_so_far())
            if self._office is not None:
                await self._office.open()
            self._start_pump()
            self._images.start()
            await self._listen()
            if self._office is not None:
                await self._office.show(self._shown(self._office))
        except BaseException:
            await self._close()
            raise
        self._tasks = [
            asyncio.create_task(self._sweep(), name="sweep"),
            asyncio.create_task(self._keep_house(), name="housekeeping"),
        ]

    def _start_pump(self) -> None:
        self.pump = start_pump(self.books.counts) if self.fleet.pump else None
        if self.pump is not None:
            self._surroundings = self._clients.use_pump(self.pump)
        elif self.fleet.pump:
            logging.getLogger("secondsource").warning(
                "streams pass through the interpreter: the pump was not compiled, as there was no C compiler when "
                "secondsource was installed; install one and reinstall to halve what an event costs"
            )

    async def _listen(self) -> None:
        if self._place is not None:
            await self.listening.accept_on(self._place.number, self._place.sockets)
            return
        host = self.fleet.gateway.host
        (sockets,) = await bind(host, self.fleet.gateway.port)
        self.gateway_url = url_of(host, sockets[0].getsockname()[1])
        await self.listening.accept_on(0, sockets)
        for one in sockets:
            one.close()

    async def stop(self, grace: float) -> None:
        """Take no more requests, let the running ones end, and settle the books, all within `grace` seconds."""
        self._plain.stopping = True
        self.listening.close()
        self._connections.close_idle()
        ends = time.monotonic() + grace - min(grace * SETTLING_PART, SETTLING_S)
        while self.exchanges and time.monotonic() < ends:  # noqa: ASYNC110 -- bounded, and only at the very end
            await asyncio.sleep(SWEEP_S)
        self._connections.abort_all()
        await asyncio.sleep(0)
        await self._images.stop()
        for exchange in list(self.exchanges.values()):
            exchange.client_gone()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._close()

    async def _close(self) -> None:
        self.listening.close()
        if self._office is not None:
            await self._office.close()
        self._clients.close()
        if self.pump is not None:
            self.pump.close()
        await self.books.stop()
        self.log.close()
        if self._endings.tracing is not None:
            await asyncio.to_thread(self._endings.tracing.close)

    async def _sweep(self) -> None:
        """Call on every exchange whose deadline has passed."""
        due = time.monotonic()
        while True:
            now = max(time.monotonic(), due)  # a sleep may end a little early
            for exchange in self._surroundings.deadlines.due(self.exchanges.values(), due):
                try:
                    exchange.deadline_passed(now)
                except Exception:
                    # One request's fault must not stop the clock of all others.
                    logging.getLogger("secondsource").exception("request %s failed", exchange.request_id)
                    exchange.crashed()
            self._entrance.tick(now)
            # Not what has passed since: where the loop was busy, the replica's sign may have come and not been read.
            due = time.monotonic() + SWEEP_S
            await asyncio.sleep(SWEEP_S)

    async def _keep_house(self) -> None:
        while True:
            self._connections.close_overdue()
            self._clients.close_drained()
            self._parity.refresh(self.router)
            await asyncio.sleep(HOUSEKEEPING_S)

    # -- what the admin listener shows

    def _shown(self, office: Office) -> Shown:
        return Shown(
            fleet=self.fleet,
            meter=self.meter,
            books=office.books,
            replicas=self.replica_views,
            running=self.running,
            flows=self.flows,
            lanes=self.lane_views,
            suppliers=self.supplier_views,
            plug=self.plug,
            make_console=self._make_console,
            gateway_url=self.gateway_url,
            admin_url=office.admin_url,
        )

    def replica_views(self) -> list[ReplicaView]:
        """Return every replica as it stands."""
        now = time.monotonic()
        return [view_of(replica, now) for replica in self.router.replicas]

    def lane_views(self) -> list[LaneView]:
        """Return every model's lanes as they stand."""
        return self._entrance.views(self.exchanges.values())

    def supplier_views(self) -> list[SupplierView]:
        """Return every supplier's part of the spend."""
        return self._feedback.views()

    def flows(self) -> list[FlowView]:
        """Return what is being answered, by lane and pool."""
        running = Counter((exchange.principal.lane, exchange.pool) for exchange in self.exchanges.values())
        return [FlowView(lane=lane, pool=pool, requests=count) for (lane, pool), count in running.items()]

    async def plug(self, supplier: str, plugged: bool) -> int:
        """Take a supplier away, cutting what it is answering, or put it back; returns how many attempts were cut."""
        self.router.plug(supplier, plugged=plugged)
        if plugged:
            return 0
        return sum(exchange.unplug(supplier) for exchange in list(self.exchanges.values()))

    async def running(self, request_id: str) -> RequestView | None:
        """Return a request that is being answered, or None."""
        exchange = self.exchanges.get(request_id)
        if exchange is None:
            return None
        exchange.catch_up()
        return RequestView(
            request_id=request_id,
            tenant=exchange.principal.tenant,
            lane=exchange.principal.lane,
            endpoint=exchange.ask.path,
            model=exchange.ask.model,
            waiting=exchange.waiting,
            tokens_delivered=exchange.delivered.tokens,
            running_for_s=time.monotonic() - exchange.started,
        )

    # -- what connections ask

    def now(self) -> float:
        """Return monotonic seconds."""
        return time.monotonic()

    def opened(self, connection: ClientConnection) -> None:
        """Note a new connection."""
        self._connections.opened(connection)

    def closed(self, connection: ClientConnection) -> None:
        """Note that a connection is gone."""
        self._connections.closed(connection)

    def hold(self, size: int) -> bool:
        """Count bytes of request bodies in memory; returns False when all clients together hold too much."""
        return self._connections.hold(size)

    def refused(self, status: int, message: str) -> bytes:
        """Count and log a request that never was whole, and return an id for it."""
        request_id = self._new_request_id()
        self.meter.request_refused("", status)
        self._endings.write([short_line(request_id.decode(), status, message)])
        return request_id

    def new_request_id(self) -> str:
        """Return an id that no request has had."""
        return self._new_request_id().decode()

    def _new_request_id(self) -> bytes:
        self._ids += 1
        return f"{self._id_prefix}{self._ids:08x}".encode()

    def handle(self, request: Request, connection: ClientConnection) -> Exchange | Asker | None:
        """Answer a request, or start the exchange that will."""
        request_id = self._new_request_id()
        lines: Lines = [(b"x-request-id", request_id)]
        if self._plain.stopping:
            request.keep_alive = False
        try:
            endpoint = ENDPOINTS.get(request.path)
            if endpoint is not None and request.method == b"POST":
                return self._exchange(endpoint, request, connection, request_id.decode())
            if request.path.startswith(JOBS_PATH):
                asker = Asker(connection, self._authentication.require(request), request_id.decode(), request.path)
                return self._images.shown(asker, request.method)
            status, answer = self._plain.answer(request)
            self._log_simple(request, request_id.decode(), status, None)
            connection.respond(status, answer, lines)
        except RequestError as error:
            self.meter.request_refused("", error.status)
            self._log_simple(request, request_id.decode(), error.status, error.code or error.message)
            if error.status == 401:
                lines.append((b"www-authenticate", b"Bearer"))
            if error.status == 405:
                lines.append((b"allow", b"POST" if request.path in ENDPOINTS else b"GET"))
            body = error_body(error.status, error.message, param=error.param, code=error.code)
            connection.respond(error.status, body, lines)
        return None

    def _exchange(
        self, endpoint: Endpoint, request: Request, connection: ClientConnection, request_id: str
    ) -> Exchange | Asker | None:
        principal = self._authentication.require(request)
        ask = parse_request(endpoint, request.body, self._image_model)
        if not self.router.serves(ask.model):
            raise unknown_model(ask.model, self.fleet.models)
        principal = self._entrance.in_lane(principal, ask)
        if endpoint is Endpoint.IMAGES:
            return self._images.asked(Wish(connection, ask, principal, request_id, request.headers, request.body))
        return self.begin(connection, ask, principal, request_id, request.headers)

    def begin(
        self, recipient: Recipient, ask: Ask, principal: Principal, request_id: str, headers: dict[bytes, bytes]
    ) -> Exchange:
        """Make an exchange that answers `recipient`, and let it in."""
        given = headers.get(b"traceparent")
        trace = None if self._endings.tracing is None else tracing.begin(given, time.time_ns())
        self.meter.request_started(ask.path, ask.model, principal.lane)
        failover = ImageFailover if ask.endpoint is Endpoint.IMAGES else Failover
        exchange = Exchange(
            recipient,
            ask,
            principal,
            request_id,
            forwarded_lines(headers, trace),
            failover(self.router, self._budget, ask.model),
            self._surroundings,
            self,
        )
        self.exchanges[request_id] = exchange
        exchange.tells = headers.get(TELL) == b"attempts"
        exchange.trace = trace
        if trace is not None:
            exchange.traceparent = trace.traceparent
        elif given is not None and tracing.TRACEPARENT.fullmatch(given):
            exchange.traceparent = given.decode()
        try:
            self._entrance.enter(exchange)
        except Exception:
            # A fault of our own: nobody is left waiting, and nothing is left busy.
            logging.getLogger("secondsource").exception("request %s failed", request_id)
            exchange.crashed()
        return exchange

    def _start(self, exchange: Exchange) -> None:
        """Let an exchange make its first attempt: its turn has come."""
        self._budget.request_started()
        try:
            exchange.start()
        except Exception:
            logging.getLogger("secondsource").exception("request %s failed", exchange.request_id)
            exchange.crashed()

    # -- what exchanges say

    def write(self, record: LedgerRecord, reserved: Reserved) -> None:
        """Write a record to the books, and count it."""
        self.books.append(record)
        if isinstance(record, Settled):
            self.meter.attempt_ended(reserved, record)
            self._feedback.settled(record)
        elif isinstance(record, Reserved) and self._feedback.reserved(
            record, self._entrance.expectation(record.model).nano_usd
        ):
            self.exchanges[record.request_id].over_share = True

    def found_full(self, model: str) -> None:
        """Note that there is less room than was thought."""
        self._entrance.found_full(model)

    def began(self, exchange: Exchange) -> None:
        """Note that a prompt has been read."""
        self._entrance.began(exchange.ask.model)

    def attempt_ended(self, exchange: Exchange, attempt: Attempt, settled: Settled) -> None:
        """Learn from an attempt."""
        self._feedback.ended(exchange, attempt, settled, self._entrance.expectation(exchange.ask.model))

    def ended(self, exchange: Exchange, status: int) -> None:
        """Forget an exchange that is over, and count it."""
        self.exchanges.pop(exchange.request_id, None)
        self._entrance.ended(exchange)
        duration_s = time.monotonic() - exchange.started
        self.meter.request_ended(
            exchange.ask.path,
            exchange.ask.model,
            exchange.principal.lane,
            status,
            int(duration_s * 1e9),
            int(exchange.first_token_s * 1e9),
            exchange.delivered.tokens,
        )
        self._endings.add(Ended(exchange, status, duration_s))

    # -- what the log says

    def _why_nobody(self) -> str:
        return "ledger_unavailable" if self.books.refusing else "no_replica_available"

    def _log_simple(self, request: Request, request_id: str, status: int, refusal: str | None) -> None:
        if refusal is None and request.path in HEALTH_PATHS:
            return  # a load balancer asks every second: nobody would find anything else
        principal = self._authentication.principal_of(request) or NOBODY
        line = short_line(request_id, status, refusal, request.method.decode("latin-1"), request.path)
        told = {"tenant": principal.tenant, "lane": principal.lane, "key_id": principal.key_id}
        self._endings.write([msgspec.structs.replace(line, **told)])
