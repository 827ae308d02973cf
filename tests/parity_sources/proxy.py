"""A replica in front of another that changes requests or answers on their way."""

import contextlib
import json
import random
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]
Change = Callable[[Body], Body]


def unchanged(body: Body) -> Body:
    """Leave it as it is."""
    return body


def temperature(value: float) -> Change:
    """Ask at this temperature, whatever the client asked for."""
    return lambda body: body | {"temperature": value}


def beginning_cut(characters: int) -> Change:
    """Keep the end of each message only, as a server does that drops what does not fit."""

    def cut(body: Body) -> Body:
        messages = [one | {"content": one["content"][-characters:]} for one in body.get("messages", [])]
        return body | {"messages": messages} if messages else body

    return cut


@contextlib.contextmanager
def in_front_of(upstream: str, ask: Change = unchanged, answer: Change = unchanged) -> Iterator[str]:
    """Serve on a free port of loopback; yield the URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._forward(None)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            self._forward(json.dumps(ask(body)).encode())

        def _forward(self, body: bytes | None) -> None:
            request = urllib.request.Request(upstream + self.path, body, {"content-type": "application/json"})
            try:
                with urllib.request.urlopen(request) as response:
                    status, data = response.status, json.dumps(answer(json.load(response))).encode()
            except urllib.error.HTTPError as error:
                status, data = error.code, error.read()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def drift(seed: int, most: float = 0.064) -> Change:
    """Move every log probability by at most `most` nats, and leave the likeliest token the likeliest."""
    chance = random.Random(seed)

    def moved(body: Body) -> Body:
        for choice in body.get("choices", []):
            for spot in (choice.get("logprobs") or {}).get("content") or []:
                for place, token in enumerate(spot["top_logprobs"]):
                    token["logprob"] += chance.uniform(-most, most)
                    if place:
                        token["logprob"] = min(token["logprob"], spot["top_logprobs"][0]["logprob"])
        return body

    return moved
