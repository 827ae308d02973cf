"""The workers: started together, replaced when they die, and never without somebody who accepts their clients."""

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence

from secondsource.core.errors import SecondsourceError
from secondsource.gateway.workers import messages as said
from secondsource.gateway.workers.post import Post

START_WITHIN_S = 60.0
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
LIVED_WELL_S = 10.0  # after so long a death is not the start's fault, and the next one is replaced at once
SILENT_S = 30.0  # a worker that has said nothing for so long is stuck, and is killed
LAST_MOMENT_S = 0.5  # of a stop: what still runs then is killed


class Crew:
    """Owns the posts, and the listening sockets, which outlive every process on them.

    `prepare` is called with a post whose process has started, to say all that it has to know; `left` when its process
    is gone.
    """

    def __init__(
        self,
        workers: int,
        board: int,
        heard: Callable[[Post, said.FromWorker], None],
        prepare: Callable[[Post], None],
        left: Callable[[Post], None],
        say: Callable[[str], None],
    ) -> None:
        self.posts = [Post(number, heard) for number in range(1, workers + 1)]
        self._board = board
        self._prepare = prepare
        self._left = left
        self._say = say
        self._sockets: Mapping[int, Sequence[socket.socket]] = {}
        self._adopters: dict[int, Post] = {}  # by the number of the worker whose clients they accept
        self._keepers: list[asyncio.Task[None]] = []
        self._stop = asyncio.Event()
        self._started = False

    async def start(self, sockets: Sequence[Sequence[socket.socket]]) -> None:
        """Start every worker and wait until all accept clients; raises SecondsourceError when one cannot."""
        self._sockets = {post.number: some for post, some in zip(self.posts, sockets, strict=True)}
        self._keepers = [asyncio.create_task(self._keep(post), name=f"worker {post.number}") for post in self.posts]
        ready = asyncio.create_task(self._all_ready())
        try:
            await asyncio.wait([ready, *self._keepers], timeout=START_WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
            for keeper in self._keepers:
                if keeper.done():
                    await keeper  # raises what went wrong
            if not ready.done():
                raise SecondsourceError(f"the workers did not start within {START_WITHIN_S:.0f} s")
        finally:
            ready.cancel()
        self._started = True

    def serves(self, post: Post) -> None:
        """Note that a worker accepts clients, and needs nobody to do it for it."""
        post.serving = post.has_served = True
        post.ready.set()
        adopter = self._adopters.pop(post.number, None)
        if adopter is not None:
            adopter.say(said.Adopt(worker=post.number, adopted=False))
        for other in self.posts:
            if not other.serving and other.number not in self._adopters:  # nobody was left when it went
                self._adopters[other.number] = post
                post.say(said.Adopt(worker=other.number, adopted=True))

    def leaves(self, post: Post) -> None:
        """Note that a worker accepts no more clients: others do it for it, and for those that it had taken over."""
        post.serving = False
        mine = [number for number, adopter in self._adopters.items() if adopter is post]
        others = [other for other in self.posts if other.serving]
        for place, number in enumerate([post.number, *mine]):
            self._adopters.pop(number, None)
            if others and not self._stop.is_set():
                adopter = others[place % len(others)]
                self._adopters[number] = adopter
                adopter.say(said.Adopt(worker=number, adopted=True))

    def kill_silent(self) -> None:
        """Kill the workers that have said nothing for long, and so would never be replaced."""
        for post in self.posts:
            if post.serving and time.monotonic() - post.heard_at > SILENT_S:
                self._say(f"Worker {post.number} has been silent for {SILENT_S:.0f} s and is killed.")
                post.kill()

    async def stop(self, grace_s: float) -> None:
        """Have every worker end within so many seconds, and kill those that do not."""
        self._stop.set()
        ends = time.monotonic() + grace_s
        for post in self.posts:
            post.say(said.Stop(grace_s=max(grace_s - LAST_MOMENT_S, grace_s / 2)))
        self.close_sockets()
        if self._keepers:
            await asyncio.wait(self._keepers, timeout=max(ends - time.monotonic(), 0.0))
        for post in self.posts:
            post.kill()
        await asyncio.gather(*self._keepers, return_exceptions=True)

    def close_sockets(self) -> None:
        """Hold the listening sockets no more."""
        for some in self._sockets.values():
            for one in some:
                one.close()

    async def _all_ready(self) -> None:
        for post in self.posts:
            await post.ready.wait()

    async def _keep(self, post: Post) -> None:
        pause_s = 0.0
        while not self._stop.is_set():
            started = time.monotonic()
            await post.fill(self._board, self._sockets)
            self._prepare(post)
            if self._stop.is_set():
                post.kill()
            code = await post.gone()
            self.leaves(post)
            self._left(post)
            if self._stop.is_set():
                return
            # An error of its own, and not somebody's signal: the next process would meet it too.
            if code > 0 and not self._started and not post.has_served:
                raise SecondsourceError(f"worker {post.number} did not start: it ended with {_ended(code)}")
            post.restarts += 1
            lived_well = time.monotonic() - started > LIVED_WELL_S
            pause_s = FIRST_PAUSE_S if lived_well else min(max(2 * pause_s, FIRST_PAUSE_S), LONGEST_PAUSE_S)
            self._say(f"Worker {post.number} ended ({_ended(code)}); it is started again.")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), pause_s)


def _ended(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
