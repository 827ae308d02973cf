"""Clients of a surge: they come at random, stream, and, sent away, some come back when they were told to."""

import asyncio
import contextlib
import json
import time
from dataclasses import dataclass, field
from random import Random

PAID, FREE = "paid", "free"
PAID_TENANTS = ("acme", "globex")
FREE_TENANTS = {"flood": 0.6, "crowd": 0.3, "middle": 0.09, "trickle": 0.01}
PART_PAID = 0.1
PATIENCE_S = 120.0


@dataclass
class Sizes:
    """How long prompts and answers are, in tokens: the logarithm's mean and spread."""

    prompt: tuple[float, float] = (6.0, 1.0)
    answer: tuple[float, float] = (3.5, 0.6)
    most_prompt: int = 6000
    most_answer: int = 200

    def draw(self, random: Random) -> tuple[int, int]:
        prompt = min(max(int(random.lognormvariate(*self.prompt)), 16), self.most_prompt)
        return prompt, min(max(int(random.lognormvariate(*self.answer)), 2), self.most_answer)


@dataclass
class Try:
    """One request of a client, and what came of it; times are monotonic seconds."""

    sent: float
    ended: float = 0.0
    status: int = 0
    first_token_s: float | None = None
    whole: bool = False
    retry_after: float | None = None
    refused: str = ""
    tokens: int = 0


@dataclass
class Client:
    """Somebody who wants one answer."""

    lane: str
    tenant: str
    prompt_tokens: int
    answer_tokens: int
    came: float
    obeys: bool
    tries: list[Try] = field(default_factory=list)

    @property
    def served(self) -> bool:
        return bool(self.tries) and self.tries[-1].whole


def body_of(client: Client, number: int) -> bytes:
    """Return a chat whose body is four bytes a token, and like no other."""
    text = f"{number:08d} " + "lorem ipsum " * (client.prompt_tokens * 4 // 12 + 1)
    messages = [{"role": "user", "content": text[: max(client.prompt_tokens * 4 - 80, 9)]}]
    asked = {"model": "chat", "stream": True, "max_tokens": client.answer_tokens, "messages": messages}
    return json.dumps(asked).encode()


async def ask(port: int, token: str, body: bytes) -> Try:
    """Send one request and read its stream to the end."""
    one = Try(time.monotonic())
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {token}\r\n"
    writer.write(head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body)
    try:
        answer = await reader.readuntil(b"\r\n\r\n")
        one.status = int(answer[9:12])
        headers = dict(line.split(b": ", 1) for line in answer.split(b"\r\n")[1:] if b": " in line)
        if one.status == 200:
            one.first_token_s = time.monotonic() - one.sent
        elif b"retry-after" in headers:
            one.retry_after = float(headers[b"retry-after"])
            one.refused = headers.get(b"x-secondsource-refused", b"").decode()
        rest = await reader.read()
        while rest:
            one.whole = b"data: [DONE]" in rest or one.whole
            one.tokens += rest.count(b'"content"')
            rest = await reader.read()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        one.ended = time.monotonic()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    return one


@dataclass
class Load:
    """Requests at a rate, until it is stopped."""

    port: int
    tokens: dict[str, str]  # by tenant
    seed: int
    sizes: Sizes = field(default_factory=Sizes)
    obeys: float = 0.2
    clients: list[Client] = field(default_factory=list)
    _tasks: "set[asyncio.Task[None]]" = field(default_factory=set)

    def __post_init__(self) -> None:
        self._random = Random(self.seed)

    async def run(self, seconds: float, per_s: float, *, free: bool = True, seed: int | None = None) -> list[Client]:
        """Let clients come for so long, at so many a second with the free ones; returns those who came.

        With the same seed the same paid clients come, with the free ones or without them.
        """
        if seed is not None:
            self._random = Random(seed)
        ends = time.monotonic() + seconds
        due, came = time.monotonic(), []
        while due < ends:
            due += self._random.expovariate(per_s)
            client = self._draw(due)
            if client.lane == FREE and not free:
                continue
            await asyncio.sleep(max(due - time.monotonic(), 0.0))
            came.append(client)
            self.clients.append(client)
            task = asyncio.create_task(self._live(client, len(self.clients)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return came

    async def end(self, patience_s: float = 60.0) -> None:
        """Wait for those who are being answered; who waits to come back is sent home."""
        if self._tasks:
            _, pending = await asyncio.wait(self._tasks, timeout=patience_s)
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    def _draw(self, now: float) -> Client:
        random = self._random
        paid = random.random() < PART_PAID
        tenants, weights = (PAID_TENANTS, (1.0, 1.0)) if paid else (tuple(FREE_TENANTS), tuple(FREE_TENANTS.values()))
        tenant = random.choices(tenants, weights)[0]
        prompt, answer = self.sizes.draw(random)
        return Client(PAID if paid else FREE, tenant, prompt, answer, now, random.random() < self.obeys)

    async def _live(self, client: Client, number: int) -> None:
        body = body_of(client, number)
        while True:
            one = await ask(self.port, self.tokens[client.tenant], body)
            client.tries.append(one)
            if one.whole or one.retry_after is None or not client.obeys or one.retry_after > PATIENCE_S:
                return
            await asyncio.sleep(one.ended + one.retry_after - time.monotonic())
