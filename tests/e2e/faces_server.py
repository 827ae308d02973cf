"""The faces as a replica: `/v1/images/generations`, one image after another, and how often it was asked."""

import argparse
import base64
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.e2e.faces import SIDE, Faces

MODEL = "faces"
COUNT_PATH = "/generations-begun"


class Painter(ThreadingHTTPServer):
    """A server that owns the model and its own count."""

    daemon_threads = True

    def __init__(self, port: int, wheel: Path) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.faces = Faces(wheel)
        self.begun = 0


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: Painter

    def do_GET(self) -> None:
        if self.path == COUNT_PATH:
            self._answer(200, {"begun": self.server.begun})
        else:
            self._answer(200, {"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "faces"}]})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.begun += 1
        first = int(asked.get("seed", self.server.begun))
        faces = [self.server.faces.make(first + number) for number in range(int(asked.get("n") or 1))]
        data = [{"b64_json": base64.b64encode(face).decode()} for face in faces]
        self._answer(200, {"created": first, "data": data, "size": f"{SIDE}x{SIDE}"})

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- its name in the library
        """Say nothing."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--wheel", type=Path, required=True)
    arguments = parser.parse_args()
    Painter(arguments.port, arguments.wheel).serve_forever()


if __name__ == "__main__":
    main()
