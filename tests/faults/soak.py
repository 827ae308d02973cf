"""The soak: a million streams (or as many as fit into a time) through gateways over replicas that misbehave.

    python -m tests.faults.soak [--streams N] [--minutes M] [--workers W]     goes on where it was stopped
    python -m tests.faults.soak --only SEED --batch N                         one batch again, with its report

Every batch is a seeded schedule of faults. What came of all of them is in the state file, and in the section of
docs/reliability.md that is between its markers.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import fcntl
import json
import multiprocessing
import os
import queue
import signal
import subprocess
import sys
import time
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import uvloop
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tests.faults.soak_life import BATCHES, Result, live
from tests.faults.soak_report import report, write_report

STATE = Path(".soak/state.json")
DOCUMENT = Path("docs/reliability.md")
LOOK_EVERY_S = 0.5


@dataclasses.dataclass
class Orders:
    """What every worker shares: how much is left to do, and when to stop."""

    batch: int
    ends_at: float  # on the clock of time.time()
    pause_while_locked: str | None
    stop: Event
    claimed: Any  # a shared integer: streams that are done or under way
    streams: int
    parent: int

    async def claim(self) -> bool:
        """Claim one more batch; False when there is no more to be done."""
        while self.pause_while_locked and _is_locked(self.pause_while_locked) and not self.stop.is_set():  # noqa: ASYNC110
            await asyncio.sleep(LOOK_EVERY_S)
        if self.stop.is_set() or time.time() >= self.ends_at or os.getppid() != self.parent:
            return False
        with self.claimed.get_lock():
            if self.claimed.value >= self.streams:
                return False
            self.claimed.value += self.batch
        return True


def _is_locked(path: str) -> bool:
    """Return whether somebody holds a lock on a file: a measurement that wants the machine to itself."""
    with open(path, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def work(orders: Orders, lives: Any, said: Any) -> None:
    """Be a worker: one life after another, in a session of its own, so that Ctrl-C reaches no gateway."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    last = 0

    async def begin_batch(so_far: Result) -> bool:
        nonlocal last
        said.put(("streams", so_far.streams - last, len(so_far.failures)))
        last = so_far.streams
        return await orders.claim()

    while not orders.stop.is_set() and time.time() < orders.ends_at and orders.claimed.value < orders.streams:
        with lives.get_lock():
            number = lives.value
            lives.value += 1
        last = 0
        seeds = [number * 1000 + batch for batch in range(BATCHES)]
        result = uvloop.run(live(number, seeds, orders.batch, begin_batch))
        said.put(("streams", result.streams - last, len(result.failures)))
        said.put(("life", number, result.as_json()))


@dataclasses.dataclass
class State:
    """The state file: what was done so far, in how long, of which code, in batches of which size."""

    path: Path
    batch: int
    next_life: int = 1
    seconds: float = 0.0
    commits: list[str] = dataclasses.field(default_factory=list)
    result: Result = dataclasses.field(default_factory=Result)

    @classmethod
    def load(cls, path: Path, batch: int) -> "State":
        """Return the state that the file holds, or a fresh one."""
        if not path.exists():
            return cls(path, batch)
        kept = json.loads(path.read_text())
        return cls(**{**kept, "path": path, "result": Result.of(kept["result"])})

    def save(self) -> None:
        """Replace the file in one step."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = self.path.with_suffix(".new")
        kept = {one.name: getattr(self, one.name) for one in dataclasses.fields(self) if one.name != "path"}
        kept["result"] = self.result.as_json()
        new.write_text(json.dumps(kept, indent=1))
        new.replace(self.path)


def run(arguments: argparse.Namespace) -> int:
    """Run workers until all is done, time is up or Ctrl-C; returns 1 if anything failed, ever."""
    state = State.load(arguments.state, arguments.batch)
    processes = multiprocessing.get_context("spawn")
    stop = processes.Event()
    ends_at = time.time() + 60 * arguments.minutes
    claimed = processes.Value("q", state.result.streams)
    lives = processes.Value("q", state.next_life)
    orders = Orders(state.batch, ends_at, arguments.pause_while_locked, stop, claimed, arguments.streams, os.getpid())
    said = processes.Queue()
    workers = [processes.Process(target=work, args=(orders, lives, said)) for _ in range(arguments.workers)]
    for worker in workers:
        worker.start()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    begun = time.monotonic() - state.seconds
    state.commits = list(dict.fromkeys([*state.commits, commit()]))
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn()) as progress:
        bar = progress.add_task("streams", total=arguments.streams, completed=state.result.streams)
        while any(worker.is_alive() for worker in workers) or not said.empty():
            with contextlib.suppress(queue.Empty):
                kind, number, fact = said.get(timeout=LOOK_EVERY_S)
                if kind == "life":
                    state.result.add(Result.of(fact))
                    state.next_life = max(state.next_life, number + 1)
                    state.seconds = time.monotonic() - begun
                    state.save()
                else:
                    ended = " (ending)" if stop.is_set() else ""
                    progress.update(bar, advance=number, description=f"streams, {fact} failures in this life{ended}")
    write_report(arguments.report, report(state.result, state.batch, state.seconds, state.commits, arguments.streams))
    result = state.result
    crashed = [worker.exitcode for worker in workers if worker.exitcode]
    print(f"{result.streams} streams, {len(result.failures)} failures; {arguments.report} tells")
    for failure in [*result.failures[:5], *(f"a worker ended with {code}" for code in crashed)]:
        print(failure[:4000])
    return 1 if result.failures or crashed else 0


def commit() -> str:
    """Return which code is run."""
    ran = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return ran.stdout.strip() or "unknown"


def run_one(seed: int, batch: int) -> int:
    """Run one batch again, in a life of its own, and print what failed."""
    begun = False

    async def begin_batch(_: Result) -> bool:
        nonlocal begun
        begun, was = True, begun
        return not was

    result = uvloop.run(live(seed // 1000, [seed], batch, begin_batch))
    print(json.dumps(result.as_json(), indent=1))
    return 1 if result.failures else 0


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--streams", type=int, default=1_000_000, help="in all, those of earlier runs included")
    parser.add_argument("--minutes", type=float, default=24 * 60, help="stop after so long")
    parser.add_argument("--batch", type=int, default=1000, help="streams of one schedule")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="each with a gateway of its own")
    parser.add_argument("--state", type=Path, default=STATE)
    parser.add_argument("--report", type=Path, default=DOCUMENT, help="the document whose section is written")
    parser.add_argument("--pause-while-locked", metavar="FILE", help="rest while somebody holds a lock on FILE")
    parser.add_argument("--only", type=int, metavar="SEED", help="run this batch again, and nothing else")
    arguments = parser.parse_args()
    return run(arguments) if arguments.only is None else run_one(arguments.only, arguments.batch)


if __name__ == "__main__":
    sys.exit(main())
