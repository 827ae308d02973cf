"""A request played on a stage: its client and its replicas are the test's, the exchange and its attempts are real."""

import json
import math
import time
from collections.abc import Callable
from typing import Any

from secondsource.core.fleet import Limits, Pool, Timeouts
from secondsource.core.records import LedgerRecord, Outcome, Reserved, Settled
from secondsource.gateway.books.journal import JournalError
from secondsource.gateway.client import Lines
from secondsource.gateway.deadlines import Deadlines
from secondsource.gateway.exchange import Exchange, Observer, Principal, Surroundings, made_at
from secondsource.gateway.fast_path import ChunkWriter
from secondsource.gateway.upstream import ReplicaClient, Target
from secondsource.gateway.wire.request import Ask
from secondsource.policy.failover import Failover
from secondsource.policy.replica import Replica
from secondsource.policy.retry_budget import RetryBudget
from tests.fleets import MODEL, router
from tests.streams import stream

SSE = {b"content-type": b"text/event-stream"}
JSON = {b"content-type": b"application/json"}


class Connection:
    """The client's end of one request."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self.ended = 0
        self.kept = True

    def respond(self, status: int, body: bytes, headers: Lines, content_type: bytes = b"application/json") -> None:
        assert not self.status, "two answers"
        self.status, self.body, self.headers = status, body, dict(headers)
        self.ended += 1

    def start_stream(self, headers: Lines, content_type: bytes, data: bytes) -> None:
        assert not self.status, "two answers"
        self.status, self.body, self.headers = 200, data, dict(headers)

    def send(self, data: bytes) -> None:
        assert self.status == 200
        assert not self.ended
        self.body += data

    def chunk_writer(self) -> ChunkWriter | None:
        """Nothing passes by the test, unless it says so."""
        return None

    def end_stream(self, data: bytes, *, keep: bool = True) -> None:
        self.send(data)
        self.ended += 1
        self.kept = keep

    def abort(self) -> None:
        self.ended += 1


class Played:
    """One call to a replica, played by the test; it is the upstream's Call and what its answer says."""

    def __init__(self, replica: str, request: bytes, handler: Any) -> None:
        self.replica = replica
        self.request = request
        self.handler = handler
        self.left = self.aborted = False
        self.fast_path = None
        self.paused = False

    @property
    def fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = json.loads(self.request.partition(b"\r\n\r\n")[2])
        return fields

    def leave(self) -> None:
        self.left = True

    def catch_up(self) -> bool:
        return False

    def abort(self) -> None:
        self.aborted = True

    def pause(self, *, paused: bool) -> None:
        self.paused = paused

    @property
    def over(self) -> bool:
        return self.left or self.aborted

    def streams(self, *payloads: bytes, done: bool = False) -> "Played":
        if not self.handler.status:
            self.handler.on_head(200, SSE)
        if not self.over:
            self.handler.on_body(stream(*payloads, done=done))
        return self

    def answers(self, status: int, body: bytes, headers: dict[bytes, bytes] = JSON) -> None:
        self.handler.on_head(status, headers)
        self.handler.on_body(body)
        self.handler.on_end()

    def fails(self, outcome: Outcome = Outcome.RESET) -> None:
        self.handler.on_failed(outcome, "played")


class Stage(Observer):
    """A request, its client, its replicas and its books; `client_of` gives a replica's client, if not one played."""

    def __init__(
        self,
        asked: Ask,
        *pools: Pool,
        limits: Limits | None = None,
        connection: Connection | None = None,
        client_of: Callable[[Replica], ReplicaClient] | None = None,
        starts: bool = True,
    ) -> None:
        self.router = router(*pools)
        for state in self.router.pools:
            state.prefill_repeats = False  # as it is known once a replica has been asked
        self.calls: list[Played] = []
        self.records: list[LedgerRecord] = []
        self.statuses: list[int] = []
        self.books_fail = False
        self.connection = connection or Connection()
        surroundings = Surroundings(
            clients={
                replica: client_of(replica) if client_of else _Client(self, replica)  # type: ignore[misc]
                for replica in self.router.replicas
            },
            made_at={state.pool.name: made_at(state.pool) for state in self.router.pools},
            timeouts=Timeouts(),
            limits=limits or Limits(),
            deadlines=Deadlines(),
        )
        self.exchange = Exchange(
            self.connection,  # type: ignore[arg-type]
            asked,
            Principal(tenant="acme", lane="paid", key_id="k"),
            "req_1",
            b"",
            Failover(self.router, RetryBudget(0.0), MODEL),
            surroundings,
            self,
        )
        if starts:
            self.exchange.start()

    def write(self, record: LedgerRecord, reserved: Reserved) -> None:
        if self.books_fail and isinstance(record, Reserved):
            raise JournalError("disk full")
        self.records.append(record)

    def ended(self, exchange: Exchange, status: int) -> None:
        self.statuses.append(status)

    @property
    def call(self) -> Played:
        return self.calls[-1]

    def outcomes(self) -> list[Outcome]:
        return [record.outcome for record in self.records if isinstance(record, Settled)]

    def check_settled(self) -> None:
        """Every attempt is reserved once and settled once, and no replica is left busy."""
        reserved = [record.attempt_id for record in self.records if isinstance(record, Reserved)]
        settled = [record.attempt_id for record in self.records if isinstance(record, Settled)]
        assert sorted(reserved) == sorted(settled)
        assert len(set(reserved)) == len(reserved) == len(self.calls)
        assert all(replica.in_flight == 0 for replica in self.router.replicas)
        assert all(call.over for call in self.calls)
        assert len(self.statuses) == 1

    def pass_time(self, *, total: bool = False) -> None:
        """Let the deadline that is set pass."""
        now = time.monotonic() + (1e6 if total else 0.0)
        assert self.exchange.deadline < math.inf
        self.exchange.deadline_passed(now)


class _Client:
    def __init__(self, stage: Stage, replica: Replica) -> None:
        self.target = Target(replica.url, None, None)
        self._stage = stage
        self._replica = replica

    def call(self, request: bytes, handler: Any) -> Played:
        played = Played(self._replica.pool.name, request, handler)
        self._stage.calls.append(played)
        return played
