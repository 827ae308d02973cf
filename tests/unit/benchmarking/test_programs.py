"""The fake replica and the load client, judged: a client that overlooks a fault would measure nothing."""

import http.client
import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from secondsource.benchmarking.tools import compiled

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here")
HEAD = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
END = "data: [DONE]\n\n"


@pytest.fixture
def ports() -> Iterator[list[int]]:
    with subprocess.Popen([compiled("replica"), "0", "2"], stdout=subprocess.PIPE, text=True) as replica:
        assert replica.stdout is not None
        yield [int(replica.stdout.readline()) for _ in range(2)]
        replica.terminate()


def load(port: int, *, connections: int = 1, events: int = 3, every_us: int = 0, window_s: float = 0.4) -> Any:
    shape = map(str, (port, connections, events, every_us, 0, window_s))
    done = subprocess.run([compiled("client"), *shape, "key"], capture_output=True, text=True, check=True, timeout=60)
    window, end, result = done.stdout.splitlines()
    assert (window, end) == ("window", "end")
    return json.loads(result)


def ask(port: int, body: str, headers: dict[str, str] | None = None) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("POST", "/v1/chat/completions", body.encode(), headers or {})
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def test_the_replica_answers_plain_requests_on_every_port(ports: list[int]) -> None:
    for port in ports:
        answer = json.loads(ask(port, '{"messages":[]}'))
        assert answer["choices"][0]["message"]["content"]
        assert answer["usage"]["completion_tokens"] == 3


def test_the_replica_streams_as_the_prompt_says(ports: list[int]) -> None:
    body = {
        "messages": [{"role": "user", "content": "events=4 every_us=1000"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    events = [event.removeprefix("data: ") for event in ask(ports[0], json.dumps(body)).strip().split("\n\n")]
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    texts = [chunk["choices"][0]["delta"].get("content", "") for chunk in chunks if chunk["choices"]]
    assert [text.partition("@")[0] for text in texts] == ["", " 0", " 1", " 2", " 3", ""]
    assert chunks[-1]["usage"]["completion_tokens"] == 4


def test_the_replica_takes_a_body_in_chunks(ports: list[int]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", ports[0], timeout=20)
    parts = [b'{"stream":true,', b'"messages":"events=1 every_us=0"}']
    connection.request("POST", "/v1/chat/completions", iter(parts), encode_chunked=True)
    assert "[DONE]" in connection.getresponse().read().decode()
    connection.close()


def test_the_client_finds_every_stream_of_the_replica_whole(ports: list[int]) -> None:
    result = load(ports[0], connections=20, events=50, every_us=500)
    assert result["streams"] > 0
    assert result["events"] >= 50
    assert [result[name] for name in ("refused", "disordered", "cut", "unconnected")] == [0, 0, 0, 0]
    assert 0 < result["first_byte_us_p50"] <= result["first_byte_us_p99"]
    assert 0 < result["delay_us_p50"] <= result["delay_us_p99"]


def test_the_client_keeps_the_pace_asked_for(ports: list[int]) -> None:
    result = load(ports[0], connections=4, events=10, every_us=100_000, window_s=1.0)
    assert result["events"] <= 60  # 4 streams x 10 a second, and the first of each at once


def token(index: int) -> str:
    return f'data: {{"choices":[{{"delta":{{"content":" {index}@1"}}}}]}}\n\n'


def chunk(text: str) -> str:
    return f"{len(text):x}\r\n{text}\r\n"


WHOLE = chunk(token(0)) + chunk(token(1)) + chunk(token(2)) + chunk(END) + "0\r\n\r\n"
FAULTS = {
    "refused": "HTTP/1.1 500 Oops\r\ncontent-length: 5\r\n\r\nsorry",
    "disordered": HEAD + chunk(token(0)) + chunk(token(2)) + chunk(token(1)) + chunk(END) + "0\r\n\r\n",
    "without [DONE]": HEAD + chunk(token(0)) + chunk(token(1)) + chunk(token(2)) + "0\r\n\r\n",
    "a token short": HEAD + chunk(token(0)) + chunk(token(1)) + chunk(END) + "0\r\n\r\n",
    "without a last chunk": HEAD + chunk(token(0)) + chunk(token(1)) + chunk(token(2)) + chunk(END),
}


class Scripted:
    """Sends the same bytes to whoever asks, a few at a time, and hangs up."""

    def __init__(self, answer: str, piece: int) -> None:
        self._answer, self._piece = answer.encode(), piece
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def __enter__(self) -> "Scripted":
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            with client:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._answer_one(client)

    def _answer_one(self, client: socket.socket) -> None:
        try:
            client.recv(65536)
            for at in range(0, len(self._answer), self._piece):
                client.sendall(self._answer[at : at + self._piece])
        except OSError:
            return


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("piece", [1 << 20, 1], ids=["at once", "a byte at a time"])
def test_the_client_overlooks_no_fault(fault: str, piece: int) -> None:
    with Scripted(FAULTS[fault], piece) as server:
        result = load(server.port, window_s=0.25)
    assert result["refused" if fault == "refused" else "disordered" if fault == "disordered" else "cut"] > 0
    assert result["streams"] == 0
    if fault == "refused":
        assert result["example"] == "500 sorry"


def test_the_client_takes_a_whole_answer_cut_anywhere_and_asks_again_when_hung_up_on() -> None:
    with Scripted(HEAD.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n") + WHOLE, 1) as server:
        result = load(server.port, window_s=0.25)
    assert result["streams"] > 0
    assert [result[name] for name in ("refused", "disordered", "cut", "unconnected")] == [0, 0, 0, 0]


def test_a_client_that_reaches_nobody_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    assert load(port)["unconnected"] > 0
