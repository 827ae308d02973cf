"""One worker's post: the process that holds it, the channel to it, and what is waited for from it."""

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import msgspec

from secondsource.gateway.workers import messages as said
from secondsource.gateway.workers.channel import Channel
from secondsource.policy.views import WorkerView

Answer = TypeVar("Answer", said.Told, said.Found, said.Done)


class Post:
    """A worker as the coordinator knows it; a new process takes the post when one has died."""

    def __init__(self, number: int, heard: Callable[["Post", said.FromWorker], None]) -> None:
        self.number = number
        self.ready = asyncio.Event()
        self.serving = False  # its process accepts clients
        self.has_served = False  # this one, or one before it
        self.told: said.Told | None = None  # how it stood last
        self.heard_at = 0.0  # monotonic seconds
        self.restarts = 0
        self._heard = heard
        self._decoder = msgspec.msgpack.Decoder(said.FromWorker)
        self._channel: Channel[said.FromWorker] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._questions: dict[int, asyncio.Future[said.FromWorker | None]] = {}
        self._number = 0

    async def fill(self, board: int, sockets: Mapping[int, Sequence[socket.socket]]) -> None:
        """Start a process on this post, which inherits the board and the listening sockets of all."""
        ours, theirs = socket.socketpair()
        listening = [f"{owner}:{','.join(str(one.fileno()) for one in some)}" for owner, some in sockets.items()]
        own = (theirs.fileno(), board)
        descriptors = [*own, *(one.fileno() for some in sockets.values() for one in some)]
        ours.setblocking(False)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "secondsource.gateway.workers.worker", *map(str, own), *listening),
                stdin=subprocess.DEVNULL,
                pass_fds=descriptors,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        channel = Channel(self._decoder, self._take, self._lost)
        self._channel = channel
        await asyncio.get_running_loop().create_unix_connection(lambda: channel, sock=ours)
        self.heard_at = time.monotonic()

    async def gone(self) -> int:
        """Wait until the process has ended; returns its exit code, below 0 for a signal."""
        assert self._process is not None
        code = await self._process.wait()
        self.ready.clear()
        self.serving = False
        if self._channel is not None:
            self._channel.close()
        self._lost()
        return code

    def kill(self) -> None:
        """End the process at once."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    def view(self) -> WorkerView:
        """Return how the worker stood when it told last."""
        told = self.told
        return WorkerView(
            worker=self.number,
            serving=self.serving,
            restarts=self.restarts,
            cpu_s=0.0 if told is None else told.cpu_s,
            resident_bytes=0 if told is None else told.resident_bytes,
            journal_refusing=told is not None and told.journal_refusing,
        )

    def say(self, message: said.Message) -> None:
        """Tell the worker, if there is one."""
        if self._channel is not None:
            self._channel.send(message)

    async def ask(self, make: Callable[[int], said.Message], wanted: type[Answer], within_s: float) -> Answer | None:
        """Ask the worker; returns its answer, or None when it is not there or says nothing in time."""
        if self._channel is None or not self._channel.open:
            return None
        self._number += 1
        number, answer = self._number, asyncio.get_running_loop().create_future()
        self._questions[number] = answer
        self._channel.send(make(number))
        try:
            async with asyncio.timeout(within_s):
                found = await answer
        except TimeoutError:
            return None
        finally:
            del self._questions[number]
        return found if isinstance(found, wanted) else None

    def _take(self, message: said.FromWorker) -> None:
        self.heard_at = time.monotonic()
        if isinstance(message, said.Told | said.Found | said.Done):
            answer = self._questions.get(message.number)
            if answer is not None and not answer.done():
                answer.set_result(message)
        else:
            self._heard(self, message)

    def _lost(self) -> None:
        for answer in self._questions.values():
            if not answer.done():
                answer.set_result(None)
