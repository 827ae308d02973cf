"""A real OpenAI-compatible replica on loopback that misbehaves on command and logs what it saw."""

import asyncio
import contextlib
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from secondsource.gateway.wire.habit import GIVEN
from tests.faults import connection as wire
from tests.faults import language_model as lm
from tests.faults import misbehave
from tests.faults.connection import Connection, PeerGoneError
from tests.faults.dialects import Dialect, Refusal, fits, prompt_bytes, understand
from tests.faults.fault import HEALTHY, Fault
from tests.faults.misbehave import Seen
from tests.faults.painter import paint
from tests.faults.rendering import Answer
from tests.faults.validity import malformed

T = TypeVar("T")
HABIT = "habit"  # among the probes
WORK_PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/images/generations")


def asks_habit(body: dict[str, Any]) -> bool:
    """Return whether the gateway asks, for itself, how this engine continues."""
    messages = body.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    return isinstance(last, dict) and last.get("content") == GIVEN


class WallThread:
    """An event loop in a thread of its own, on which every wall of a test session runs."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="walls", daemon=True)
        self._thread.start()

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and return its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout=20)

    def stop(self) -> None:
        """Cancel what still runs and end the thread."""
        self.call(self._cancel_all())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(timeout=10)
        self.loop.close()

    async def _cancel_all(self) -> None:
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass
class Wall:
    """One replica: `script` holds the faults of the next requests, `otherwise` the fault of all later ones.

    `decide`, where given, chooses the fault of a request that the script does not reach. A wall that is
    `down` answers nothing, health checks included.
    """

    thread: WallThread | None  # None: `open` and `shut` are awaited on the loop that it is to run on
    dialect: Dialect = Dialect.VLLM
    model: str = "wall-model"
    context_tokens: int = 32768
    quirk: lm.Quirk | None = None
    trims: bool = False  # its template trims white space at the end of the turn so far
    pace: float = 0.0  # seconds between tokens
    painting: float = 0.0  # seconds for an image
    otherwise: Fault = HEALTHY
    decide: Callable[[Seen], Fault] | None = None
    script: deque[Fault] = field(default_factory=deque)
    seen: list[Seen] = field(default_factory=list)  # requests for work, in order of arrival
    probes: list[str] = field(default_factory=list)  # paths of everything else that was asked
    habit_script: deque[Fault] = field(default_factory=deque)  # the faults of questions how it continues
    errors: list[Exception] = field(default_factory=list)  # the wall's own mistakes
    connections: int = 0
    port: int = 0
    _open: set[Connection] = field(default_factory=set)
    _server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """The base URL to put into a fleet file."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def connected(self) -> int:
        """How many connections are open."""
        return len(self._open)

    def plan(self, *faults: Fault) -> None:
        """Queue the faults of the next requests, one each."""
        self.script.extend(faults)

    def listen(self) -> "Wall":
        """Begin to listen (again), on the same port as before if there was one."""
        assert self.thread is not None
        self.thread.call(self.open())
        return self

    def refuse(self) -> None:
        """Stop listening and reset what is open: connections are refused from now on."""
        assert self.thread is not None
        self.thread.call(self.shut())

    async def open(self) -> None:
        """Listen on the running loop."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=64 * 1024 * 1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        """Stop listening and reset what is open."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in list(self._open):
            connection.reset()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer)
        self.connections += 1
        self._open.add(connection)
        try:
            while not connection.closed and (request := await connection.read_request()) is not None:
                await self._answer(connection, *request)
        except PeerGoneError:
            pass
        except Exception as error:  # noqa: BLE001 -- a fault of the wall's own: the fixture raises it in its test
            self.errors.append(error)
            connection.reset()
        finally:
            self._open.discard(connection)
            if not connection.closed:
                connection.finish()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(
        self, connection: Connection, method: str, path: str, headers: dict[str, str], raw: bytes
    ) -> None:
        path = path.partition("?")[0]
        body = json.loads(raw) if raw else {}
        if method != "POST" or path not in WORK_PATHS:
            self.probes.append(path)
            await connection.write(self._about(path, body))
            return
        seen = Seen(len(self.seen), time.monotonic(), method, path, headers, body, HEALTHY)
        if asks_habit(body):
            self.probes.append(HABIT)
            seen.fault = self.habit_script.popleft() if self.habit_script else HEALTHY
            await self._work(connection, seen)
            return
        self.seen.append(seen)
        if self.script:
            seen.fault = self.script.popleft()
        else:
            seen.fault = self.decide(seen) if self.decide is not None else self.otherwise
        messages = body.get("messages")
        last = messages[-1] if isinstance(messages, list) and messages else None
        seen.trailing_assistant = isinstance(last, dict) and last.get("role") == "assistant"
        try:
            await self._work(connection, seen)
        except PeerGoneError:
            seen.peer_closed_early = True
            raise
        finally:
            seen.ended_at = time.monotonic()

    async def _work(self, connection: Connection, seen: Seen) -> None:
        if await misbehave.before_answer(connection, seen.fault):
            return
        refused = misbehave.refusal(seen.fault)
        if refused is not None:
            seen.status = int(refused[9:12])
            await connection.write(refused)
            return
        if (why := malformed(seen.path, seen.body)) is not None:
            seen.status = 400
            await connection.write(wire.plain(400, wire.error_body(why, "invalid_request_error", None)))
            return
        if seen.path.endswith("/images/generations"):
            await paint(connection, seen, self.painting)
            return
        if seen.path.endswith("/embeddings"):
            seen.status = 200
            await connection.write(wire.plain(200, self._embed(seen)))
            return
        work = understand(seen.path, seen.body, self.dialect, self.quirk, trims=self.trims)
        if not isinstance(work, Refusal):
            work = fits(work, seen.body, self.dialect, self.context_tokens) or work
        if isinstance(work, Refusal):
            seen.status = 400
            await connection.write(wire.plain(400, wire.error_body(work.message, work.kind, work.code)))
            return
        seen.status, seen.tokens_in = 200, work.tokens_in
        answer = Answer(seen.number, self.model, seen.body, work, self.dialect)
        if seen.body.get("stream"):
            await misbehave.send_stream(connection, answer, seen, self.pace)
        else:
            await misbehave.send_whole(connection, answer, seen)

    def _embed(self, seen: Seen) -> bytes:
        inputs = seen.body.get("input", "")
        inputs = inputs if isinstance(inputs, list) else [inputs]
        data = [
            {"object": "embedding", "index": index, "embedding": [len(str(text)) / 10, 0.5, -0.25]}
            for index, text in enumerate(inputs)
        ]
        seen.tokens_in = sum(len(lm.tokenize(str(text).encode())) for text in inputs)
        usage = {"prompt_tokens": seen.tokens_in, "total_tokens": seen.tokens_in}
        return json.dumps({"object": "list", "data": data, "model": self.model, "usage": usage}).encode()

    def _about(self, path: str, body: dict[str, Any]) -> bytes:
        """Return what this engine says about itself, and llama.cpp's small services."""
        llamacpp = self.dialect in {Dialect.LLAMACPP, Dialect.ECHO}
        if path == "/v1/models":
            owner = "llamacpp" if llamacpp else "vllm" if self.dialect.startswith("vllm") else "openai"
            entry: dict[str, Any] = {"id": self.model, "object": "model", "created": 1760000000, "owned_by": owner}
            entry |= {"max_model_len": self.context_tokens} if owner == "vllm" else {}
            return wire.plain(200, json.dumps({"object": "list", "data": [entry]}).encode())
        if path == "/health":
            return wire.plain(200, b'{"status":"ok"}')
        if path == "/version" and self.dialect.startswith("vllm"):
            return wire.plain(200, b'{"version":"0.15.0"}')
        answer = self._llamacpp_service(path, body) if llamacpp else None
        if answer is None:
            return wire.plain(404, wire.error_body(f"Not found: {path}", "invalid_request_error", None))
        return wire.plain(200, json.dumps(answer).encode())

    def _llamacpp_service(self, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        if path == "/props":
            settings = {"n_ctx": self.context_tokens}
            return {"default_generation_settings": settings, "total_slots": 8, "model_alias": self.model}
        if path == "/apply-template":
            leave_open = body["messages"][-1]["role"] == "assistant"
            return {"prompt": lm.apply_template(body["messages"], mode=lm.mode_of(body), leave_open=leave_open)}
        if path == "/tokenize":
            content = body["content"] if isinstance(body["content"], list) else [body["content"]]
            ids = [[part] if isinstance(part, int) else lm.tokenize(part.encode()) for part in content]
            return {"tokens": [number for part in ids for number in part]}
        if path == "/detokenize":
            text = prompt_bytes(body["tokens"], self.dialect)
            return {"content": text.decode(errors="replace") if isinstance(text, bytes) else ""}
        return None
