"""One life of the soak: a gateway over three misbehaving replicas, batch after batch, killed now and then.

The replicas and the clients share one event loop. After each batch the books are compared with the replicas' own
meter, and at the end `secondsource bill --audit --meter` judges all of it.
"""

import asyncio
import contextlib
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from random import Random
from typing import Any

from tests.faults import meter
from tests.faults.harness import Gateway, Pool, restart, start_gateway
from tests.faults.raw_client import Received, get
from tests.faults.schedule import TIMEOUTS, Auditor, Schedule
from tests.faults.wall import Wall

BATCHES = 100  # of a life, at the most
SIZES = (20, 20, 60, 120)  # bytes of the answers: short ones, so that there are many
AT_ONCE = 64
KILLED_ONE_IN = 25  # batches in which the gateway is killed
SETTLES_S = 20.0  # how long the books may take to be complete


@dataclass
class Result:
    """What came of some streams, as it is kept in the state file."""

    streams: int = 0
    batches: int = 0
    gateways: int = 0  # processes started
    kills: int = 0
    seconds: float = 0.0
    verdicts: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    attempts: Counter[str] = field(default_factory=Counter)  # by the ledger's kind
    outcomes: Counter[str] = field(default_factory=Counter)
    late: int = 0  # streams whose usage came later than it was waited for, booked by our own count
    metered: int = 0  # attempts whose replica told its usage to the end, compared by `bill --audit --meter`
    audits: int = 0
    tokens_out: int = 0
    memory: list[list[tuple[int, float]]] = field(default_factory=list)  # per process: streams so far, MiB
    failures: list[str] = field(default_factory=list)

    def add(self, other: "Result") -> None:
        """Add what came of other streams."""
        for name, value in other.as_json().items():
            setattr(self, name, getattr(self, name) + value)

    def as_json(self) -> dict[str, Any]:
        """Return what a state file may hold."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    @classmethod
    def of(cls, state: dict[str, Any]) -> "Result":
        """Return what a state file says."""
        counters = {name: Counter(state[name]) for name in ("verdicts", "faults", "attempts", "outcomes")}
        return cls(**{**state, **counters})


def again(seed: int, streams: int) -> str:
    """Return the command that runs one batch again."""
    return f"python -m tests.faults.soak --only {seed} --batch {streams}"


class Life:
    """A gateway, its replicas, and what became of them."""

    def __init__(self, number: int, directory: Path, batch: int) -> None:
        self.number = number
        self.result = Result()
        self._batch = batch
        self._directory = directory
        self._walls: list[Wall] = []
        self._gateway: Gateway | None = None
        self._since_start = 0  # batches
        self._memory: list[tuple[int, float]] = []
        self._booked_until_ns = 0
        self._up = asyncio.Event()

    @property
    def gateway(self) -> Gateway:
        """The running gateway."""
        assert self._gateway is not None
        return self._gateway

    async def start(self) -> None:
        """Open the replicas and start the gateway."""
        pools = []
        for number, (dialect, continuation) in enumerate(Schedule(self.number, 0).ways()):
            wall = Wall(None, dialect=dialect)
            await wall.open()
            self._walls.append(wall)
            pools.append(Pool(f"pool-{number}", (wall,), continuation=continuation, order=number // 2))
        self._gateway = await asyncio.to_thread(start_gateway, self._directory, *pools, timeouts=TIMEOUTS)
        self._started()

    def _started(self) -> None:
        self.result.gateways += 1
        self._since_start, self._memory = 0, []
        self._up.set()

    async def run_batch(self, seed: int, *, kill: bool) -> None:
        """Send one batch of requests, judge each answer, and compare the books."""
        begun = time.monotonic()
        auditor = Auditor(Schedule(seed, self._batch, SIZES), again(seed, self._batch))
        for wall in self._walls:
            wall.decide = auditor.schedule.fault
        gate = asyncio.Semaphore(AT_ONCE)
        left = self._batch - Random(f"{seed} kill").randrange(self._batch) if kill else -1

        async def one(number: int, body: dict[str, Any]) -> None:
            nonlocal left
            async with gate:
                await self._up.wait()
                left -= 1
                if left == 0:
                    await self._kill()
                await self._ask(auditor, body, auditor.schedule.leaves(number))

        bodies = [auditor.schedule.body(number) for number in range(self._batch)]
        await asyncio.gather(*(one(number, body) for number, body in enumerate(bodies)))
        await self._balance(auditor)
        self._note(auditor, time.monotonic() - begun)

    async def _ask(self, auditor: Auditor, body: dict[str, Any], leave_after: int | None) -> None:
        gateway = self.gateway
        received = Received()  # nothing, where no connection was had
        with contextlib.suppress(OSError):
            received = await gateway.ask(body, leave_after=leave_after)
        killed = gateway is not self.gateway or not self._up.is_set()
        if killed and not received.looks_whole:
            auditor.verdicts["cut by kill -9"] += 1
        else:
            auditor.judge(body, received)

    async def _kill(self) -> None:
        self._up.clear()
        self._remember_memory()
        self.gateway.kill()
        self.result.kills += 1
        self._gateway = await asyncio.to_thread(restart, self.gateway)
        self._started()

    async def _balance(self, auditor: Auditor) -> None:
        """Wait until the books hold every attempt, settled, and compare them with what the replicas saw."""
        rows = await self._rows(auditor)
        metered = {wall.url: wall.seen for wall in self._walls}
        auditor.balance(rows, metered)
        with (self._directory / "meter.jsonl").open("a") as file:
            self.result.metered += meter.write_meter(file, rows, metered)
        self.result.late += meter.late(rows, metered)
        self.result.attempts.update(row.kind for row in rows.values())
        self.result.outcomes.update(row.outcome for row in rows.values())
        self.result.tokens_out += sum(row.tokens_out for row in rows.values())

    async def _rows(self, auditor: Auditor) -> dict[str, meter.Row]:
        deadline = time.monotonic() + SETTLES_S
        while True:
            asked_ns = time.time_ns()
            if auditor.ends:  # a question about one request brings the ledger up to date
                await get(self.gateway.admin_url, f"/admin/requests/{next(reversed(auditor.ends))}")
            rows = meter.read_rows(self.gateway.state_dir, self._booked_until_ns)
            open_ones = [row for row in rows.values() if row.outcome is None]
            seen = {one.attempt_id for wall in self._walls for one in wall.seen}
            if (not open_ones and seen <= rows.keys()) or time.monotonic() > deadline:
                self._booked_until_ns = asked_ns
                return rows
            await asyncio.sleep(0.05)

    def _note(self, auditor: Auditor, seconds: float) -> None:
        result = self.result
        result.streams += self._batch
        result.batches += 1
        result.seconds += seconds
        result.verdicts.update(auditor.verdicts)
        for wall in self._walls:
            result.faults.update(str(seen.fault.kind) for seen in wall.seen)
            if wall.errors:
                result.failures.append(f"the replica itself failed: {wall.errors[:3]!r}")
        if auditor.findings:
            result.failures.append(auditor.report(self._walls))
        for wall in self._walls:
            wall.seen.clear()
            wall.probes.clear()
            wall.errors.clear()
        self._since_start += 1
        if self._since_start.bit_count() == 1:  # after 1, 2, 4, 8 … batches
            self._look_at_memory()

    def _look_at_memory(self) -> None:
        self._memory.append((self._since_start * self._batch, round(self.gateway.rss_mib(), 1)))

    def _remember_memory(self) -> None:
        if self._since_start and self.gateway.process.poll() is None:
            self._look_at_memory()
            self.result.memory.append(self._memory)

    async def end(self) -> Result:
        """Stop the gateway, audit its books, and return what came of it all."""
        self._remember_memory()
        if self.gateway.process.poll() is not None:
            self.result.failures.append(f"life {self.number}: the gateway ended:\n{self.gateway.log_text()[-5000:]}")
        await asyncio.to_thread(self.gateway.stop)
        if "Traceback" in self.gateway.log_text():
            self.result.failures.append(f"life {self.number}: an exception is in the log of {self._directory}")
        wrong = await asyncio.to_thread(meter.audit, self.gateway.state_dir, self._directory / "meter.jsonl")
        self.result.audits += 1
        if wrong is not None:
            self.result.failures.append(f"life {self.number}: {wrong} ({self._directory} is kept)")
        for wall in self._walls:
            await wall.shut()
        return self.result


async def live(number: int, seeds: list[int], batch: int, begin_batch: Callable[[Result], Awaitable[bool]]) -> Result:
    """Run a life's batches as long as `begin_batch`, told of the last one, says so; return what came of them."""
    directory = Path(tempfile.mkdtemp(prefix=f"soak-{number}-"))
    life = Life(number, directory, batch)
    await life.start()
    for seed in seeds:
        if not await begin_batch(life.result):
            break
        await life.run_batch(seed, kill=Random(f"{seed} dies").randrange(KILLED_ONE_IN) == 0)
        if life.gateway.process.poll() is not None:
            break
    result = await life.end()
    if not result.failures:
        shutil.rmtree(directory)
    return result
