"""A replica on loopback with the queueing of a real one: prompts one after another, answers side by side in steps.

Prompts are read in the order they came, at a fixed speed; the first token leaves when the prompt is read. Answers are
written together, one token a step, and a step takes the longer the more of them there are. What it may have at once
it has in slots; whoever comes beyond them waits here, as at vLLM. It is a process of its own:

.venv/bin/python -m tests.surge.replica --count 4 --slots 8
"""

import argparse
import asyncio
import contextlib
import json
import sys
from dataclasses import dataclass, field

import msgspec

TOKEN = b'{"choices":[{"index":0,"delta":{"content":" word"},"finish_reason":null}]}'
LAST = b'{"choices":[{"index":0,"delta":{},"finish_reason":"length"}]}'
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
MODELS = b'{"object":"list","data":[{"id":"chat","object":"model","created":0,"owned_by":"simulated"}]}'
BYTES_PER_TOKEN = 4


class Body(msgspec.Struct):
    """What is read of a request: its prompt's length is that of its body."""

    max_tokens: int = 16


@dataclass
class Speed:
    """How fast it is."""

    slots: int = 8
    prompt_tokens_per_s: float = 10_000.0
    step_s: float = 0.03
    step_per_answer_s: float = 0.002

    @property
    def full_step_s(self) -> float:
        return self.step_s + self.slots * self.step_per_answer_s


@dataclass(eq=False)
class Answer:
    """One answer being made."""

    writer: asyncio.StreamWriter
    prompt_tokens: int
    left: int
    done: asyncio.Event = field(default_factory=asyncio.Event)
    made: int = 0

    def send(self, payload: bytes) -> None:
        event = b"data: " + payload + b"\n\n"
        self.writer.write(b"%x\r\n%b\r\n" % (len(event), event))


@dataclass
class Replica:
    """One replica; `tokens` were written since the start."""

    speed: Speed
    tokens: int = 0
    answers: set[Answer] = field(default_factory=set)
    most_at_once: int = 0

    def __post_init__(self) -> None:
        self._free = asyncio.Semaphore(self.speed.slots)
        self._reading = asyncio.Lock()
        self._work = asyncio.Event()
        self._at_once = 0

    async def serve(self) -> int:
        """Listen; returns the port."""
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0, limit=2**22)
        self._stepping = asyncio.create_task(self._steps())
        self._server = server
        return int(server.sockets[0].getsockname()[1])

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    (int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:")), 0
                )
                body = await reader.readexactly(length)
                if head.startswith(b"GET /stats"):
                    self._plain(writer, json.dumps({"tokens": self.tokens, "most_at_once": self.most_at_once}).encode())
                elif head.startswith(b"GET"):
                    self._plain(writer, MODELS)
                else:
                    await self._answer(body, writer)
                await writer.drain()
                if b"connection: close" in head:
                    break
        writer.close()

    def _plain(self, writer: asyncio.StreamWriter, body: bytes) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        writer.write(head + body)

    async def _answer(self, body: bytes, writer: asyncio.StreamWriter) -> None:
        asked = msgspec.json.decode(body, type=Body)
        answer = Answer(writer, len(body) // BYTES_PER_TOKEN, asked.max_tokens)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            async with self._free:
                async with self._reading:
                    await asyncio.sleep(answer.prompt_tokens / self.speed.prompt_tokens_per_s)
                writer.write(HEAD)
                self._token(answer)
                if answer.left:
                    self.answers.add(answer)
                    self._work.set()
                    await answer.done.wait()
        finally:
            self._at_once -= 1
        usage = {"prompt_tokens": answer.prompt_tokens, "completion_tokens": answer.made, "total_tokens": 0}
        answer.send(LAST)
        answer.send(json.dumps({"choices": [], "usage": usage}).encode())
        answer.send(b"[DONE]")
        writer.write(b"0\r\n\r\n")

    def _token(self, answer: Answer) -> None:
        answer.send(TOKEN)
        answer.left -= 1
        answer.made += 1
        self.tokens += 1

    async def _steps(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            if not self.answers:
                self._work.clear()
                await self._work.wait()
                due = loop.time()
            due += self.speed.step_s + len(self.answers) * self.speed.step_per_answer_s
            await asyncio.sleep(due - loop.time())
            for answer in list(self.answers):
                if answer.writer.is_closing():
                    answer.left = 0
                else:
                    self._token(answer)
                if not answer.left:
                    self.answers.discard(answer)
                    answer.done.set()


async def main(count: int, slots: int) -> None:
    """Serve until the input ends; the ports are printed first."""
    replicas = [Replica(Speed(slots)) for _ in range(count)]
    ports = [await replica.serve() for replica in replicas]
    print(json.dumps(ports), flush=True)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=4)
    parser.add_argument("--slots", type=int, default=8)
    given = parser.parse_args()
    asyncio.run(main(given.count, given.slots))
