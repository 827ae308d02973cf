"""A replica whose model is a hash function: every fault can be set, and it answers at once."""

import contextlib
import functools
import json
import math
import threading
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from typing import Any

Body = dict[str, Any]
WORDS = [
    f" {first}{second}" for first in ("sea", "wind", "rope", "salt") for second in ("bird", "port", "lamp", "moon")
]
END = "."
FILLED = '{"customer": "Hana", "goods": "bolts", "count": 3}'


@dataclass(frozen=True)
class Toy:
    """What a replica is and does."""

    model_seed: int = 0
    drift: float = 0.0  # nats, either way
    context: int = 1000  # words
    logprobs: bool = True
    temperature: float | None = None  # instead of what is asked for
    template: str = ""  # stands before each message
    structured: bool = True
    failing: bool = False  # answers 500
    key: str = ""


def complete(toy: Toy, body: Body) -> tuple[int, Body]:
    """Return status and body of an answer."""
    if toy.failing:
        return 500, {"error": {"message": "out of order"}}
    chat = "messages" in body
    prompt = "\n".join(toy.template + one["content"] for one in body["messages"]) if chat else body["prompt"]
    words = prompt.split()
    if len(words) + body["max_tokens"] > toy.context:
        return 400, {"error": {"message": f"{len(words)} tokens exceed the context of {toy.context}"}}
    top = body.get("top_logprobs", 0) if chat else body.get("logprobs", 0)
    temperature = body["temperature"] if toy.temperature is None else toy.temperature
    chance = Random(f"{body.get('seed')} {prompt} {toy.model_seed}")
    text, spots = _decode(toy, prompt, body["max_tokens"], temperature, chance)
    choice: Body = {"index": 0, "finish_reason": "stop" if text.endswith(END) else "length"}
    if top and toy.logprobs:
        choice["logprobs"] = {"content": [spot | {"top_logprobs": spot["top_logprobs"][:top]} for spot in spots]}
    if not chat:
        choice["text"] = text
    elif "tools" in body and toy.structured:
        name = body["tools"][0]["function"]["name"]
        choice["message"] = {"content": None, "tool_calls": [{"function": {"name": name, "arguments": FILLED}}]}
    else:
        choice["message"] = {"content": FILLED if "response_format" in body and toy.structured else text}
    usage = {"prompt_tokens": len(words), "completion_tokens": len(spots)}
    return 200, {"choices": [choice], "usage": usage}


def _decode(toy: Toy, prompt: str, most: int, temperature: float, chance: Random) -> tuple[str, list[Body]]:
    text, spots = "", list[Body]()
    while len(spots) < most and not text.endswith(END):
        ranked = _ranked(toy.model_seed, toy.drift, prompt + text)
        token = ranked[0][0]
        if temperature:
            token = chance.choices([one for one, _ in ranked], [math.exp(value / temperature) for _, value in ranked])[
                0
            ]
        listed = [{"token": one, "bytes": list(one.encode()), "logprob": value} for one, value in ranked]
        spots.append(next(one for one in listed if one["token"] == token) | {"top_logprobs": listed})
        text += token
    return text, spots


@functools.lru_cache(100_000)
def _ranked(model_seed: int, drift: float, text: str) -> list[tuple[str, float]]:
    """Return every token with its log probability, given the whole text before it, as a model's are."""
    logits = Random(f"{model_seed} {zlib.crc32(text.encode())}")
    values = {word: logits.gauss(0, 2) for word in (*WORDS, END)}
    total = math.log(sum(math.exp(value) for value in values.values()))
    noise = Random(f"{drift} {text}")
    exact = sorted(((word, value - total) for word, value in values.items()), key=lambda one: -one[1])
    moved = [(word, value + noise.uniform(-drift, drift)) for word, value in exact]
    best = moved[0]
    return [best, *sorted(((word, min(value, best[1])) for word, value in moved[1:]), key=lambda one: -one[1])]


@contextlib.contextmanager
def replicas(toys: Sequence[Toy]) -> Iterator[list[str]]:
    """Serve one replica for each on free ports of loopback; yield the URLs."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(_replica(toy)) for toy in toys]


@contextlib.contextmanager
def _replica(toy: Toy) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._send(200, {"data": [{"id": "chat", "owned_by": "vllm", "max_model_len": toy.context}]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if toy.key and self.headers["authorization"] != f"Bearer {toy.key}":
                self._send(401, {"error": {"message": "who are you?"}})
            else:
                self._send(*complete(toy, body))

        def _send(self, status: int, body: Body) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
