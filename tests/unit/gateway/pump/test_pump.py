"""The pump gives back what is not its own, holds nothing back for good, and confuses no two streams."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from secondsource.gateway.pump.library import load_library
from secondsource.gateway.pump.pump import Owner, Passage, Pump, start_pump
from secondsource.gateway.wire.event_shape import EventShape, RawTexts

SHAPE = EventShape(b'data: {"t":"', b'"}\n\n', 0)
LIBRARY = load_library()
pytestmark = pytest.mark.skipif(LIBRARY is None, reason="the pump was not compiled: no C compiler")


def says(text: bytes) -> bytes:
    event = SHAPE.before + text + SHAPE.after
    return b"%x\r\n%b\r\n" % (len(event), event)


class Stream:
    """One stream of the pump, with a replica and a client that the test plays."""

    def __init__(self, pump: Pump) -> None:
        self.replica, self.upstream = socket.socketpair()
        self.downstream, self.client = socket.socketpair()
        for end in (self.replica, self.client):
            end.setblocking(False)
        self.texts: list[str] = []
        self.unsent = bytearray()
        self.told = asyncio.Event()
        self.noted = asyncio.Event()
        self.back = asyncio.Event()
        found = pump.take(
            self.upstream.fileno(),
            self.downstream.fileno(),
            SHAPE,
            8192,
            Owner(self._passed_on, self.noted.set, self.unsent.extend, self.back.set, f"req_{id(self)}.1", 3),
        )
        assert found is not None
        self.passage: Passage = found

    def _passed_on(self, texts: RawTexts, ago_s: float) -> None:
        assert ago_s >= 0
        self.texts += texts.read()
        self.told.set()

    async def read(self, size: int) -> bytes:
        loop, got = asyncio.get_running_loop(), b""
        while len(got) < size:
            got += await asyncio.wait_for(loop.sock_recv(self.client, size - len(got)), 10)
        return got

    def close(self) -> None:
        for end in (self.replica, self.upstream, self.downstream, self.client):
            end.close()


@pytest.fixture
async def pump(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pump]:
    monkeypatch.setattr("secondsource.gateway.pump.pump.TELL_EVERY_S", 0.5)
    found = start_pump()
    assert found is not None
    yield found
    found.close()


@pytest.fixture
async def stream(pump: Pump) -> AsyncIterator[Stream]:
    made = Stream(pump)
    yield made
    made.close()


async def test_what_it_passes_on_is_told_now_and_then(stream: Stream) -> None:
    stream.replica.send(says(b"one") + says("zw\u00f6lf".encode()))
    await asyncio.wait_for(stream.told.wait(), 10)
    assert stream.texts == ["one", "zw\u00f6lf"]
    await asyncio.wait_for(stream.noted.wait(), 10)
    assert not stream.back.is_set()


async def test_it_gives_the_stream_back_at_the_first_other_byte(stream: Stream) -> None:
    stream.replica.send(says(b"one") + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
    await asyncio.wait_for(stream.back.wait(), 10)
    assert stream.passage.end() == (b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
    assert stream.texts == ["one"]
    assert await stream.read(len(says(b"one"))) == says(b"one")
    assert stream.passage.end() == b""
    assert not stream.passage.catch_up()


async def test_a_replica_that_closes_is_given_back_with_the_half_chunk_it_sent(stream: Stream) -> None:
    stream.replica.send(says(b"one") + says(b"two")[:9])
    stream.replica.close()
    await asyncio.wait_for(stream.back.wait(), 10)
    assert stream.passage.end() == says(b"two")[:9]


async def test_more_than_a_turn_of_reads_and_then_its_end(stream: Stream) -> None:
    events = [says(b"%d" % number) for number in range(8000)]
    data = b"".join(events) + b"0\r\n\r\n"
    loop = asyncio.get_running_loop()

    async def send() -> None:
        await loop.sock_sendall(stream.replica, data)
        stream.replica.close()

    sending = asyncio.create_task(send())
    got = b""
    while not stream.back.is_set():
        stream.passage.catch_up()
        try:
            got += stream.client.recv(1 << 16)
        except BlockingIOError:
            await asyncio.sleep(0)
    unread = stream.passage.end()
    unsent = bytes(stream.unsent)
    stream.upstream.setblocking(True)
    with stream.upstream.makefile("rb") as rest:
        unread += rest.read()
    await sending
    got += await stream.read(len(data) - len(got) - len(unsent) - len(unread)) + unsent
    assert got + unread == data
    assert stream.texts == [str(number) for number in range(len(stream.texts))]
    assert len(b"".join(events[: len(stream.texts)])) == len(got)


async def test_a_client_that_does_not_read_gets_the_rest_from_who_knows_how_to_wait(stream: Stream) -> None:
    stream.downstream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    sent = b""
    piece = says(b"x" * 3000)
    while not stream.back.is_set():
        try:
            sent += piece[: stream.replica.send(piece)]
        except BlockingIOError:
            await asyncio.sleep(0)
    unread = stream.passage.end()
    unsent = bytes(stream.unsent)
    assert unsent, "what the socket did not take has been counted, and is to be written by another"
    left = b""
    stream.upstream.setblocking(False)
    while True:
        try:
            left += stream.upstream.recv(1 << 16)
        except BlockingIOError:
            break
    written = await stream.read(len(sent) - len(unsent) - len(unread) - len(left))
    assert written + unsent + unread + left == sent
    assert len(stream.texts) == len(written + unsent) // len(piece)


async def test_a_client_that_has_left_is_found_out_by_others(stream: Stream) -> None:
    stream.client.close()
    stream.replica.send(says(b"one"))
    await asyncio.wait_for(stream.back.wait(), 10)
    assert stream.passage.end() == b""
    assert stream.unsent == says(b"one")


async def test_texts_that_nobody_asks_for_are_bounded(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pump, "tell", lambda _, __: False)
    piece = says(b"x" * 2000)
    while not stream.back.is_set():
        stream.replica.send(piece)
        got = 0
        while got < len(piece) and not stream.back.is_set():
            try:
                got += len(stream.client.recv(len(piece) - got))
            except BlockingIOError:
                await asyncio.sleep(0)
    unread = stream.passage.end()
    assert unread == piece
    assert len(stream.texts) < 20


async def test_a_number_never_comes_back_for_another_stream(pump: Pump) -> None:
    numbers = set()
    for _ in range(50):
        stream = Stream(pump)
        numbers.add(stream.passage.number)
        stream.passage.end()
        stream.close()
    assert len(numbers) == 50
    assert pump.streams == 0


async def test_one_given_back_and_another_taken_at_once_are_not_mixed_up(pump: Pump) -> None:
    first = Stream(pump)
    first.replica.send(b"0\r\n\r\n")
    await asyncio.sleep(0.05)  # the thread has stopped it, and the loop is about to hear so
    first.passage.end()
    second = Stream(pump)
    await asyncio.sleep(0.05)
    assert not second.back.is_set()
    second.replica.send(says(b"mine"))
    assert await second.read(len(says(b"mine"))) == says(b"mine")
    first.close()
    second.close()


async def test_descriptors_that_are_none_are_refused(pump: Pump) -> None:
    stream = Stream(pump)
    stream.passage.end()
    gone = stream.upstream.fileno()
    stream.close()
    owner = Owner(lambda _, __: None, lambda: None, lambda _: None, lambda: None, "req_1.1", 0)
    assert pump.take(gone, gone, SHAPE, 8192, owner) is None
    long = EventShape(b"x" * 9000, SHAPE.after, 0)
    assert pump.take(gone, gone, long, 1 << 20, owner) is None


async def test_no_child_process_inherits_its_descriptors(stream: Stream) -> None:
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue
        if target.startswith(("socket:", "anon_inode:")):
            assert not os.get_inheritable(int(name)), target


async def test_closing_lets_go_of_every_stream() -> None:
    pump = start_pump()
    assert pump is not None
    before = len(os.listdir("/proc/self/fd"))
    streams = [Stream(pump) for _ in range(10)]
    pump.close()
    assert pump.streams == 0
    for stream in streams:
        stream.close()
    assert len(os.listdir("/proc/self/fd")) < before


def test_without_a_compiled_library_there_is_no_pump(tmp_path: Path) -> None:
    assert load_library(tmp_path / "libpump.so") is None


async def test_a_pump_that_cannot_start_says_so() -> None:
    class Library:
        @staticmethod
        def pump_start(most: int) -> None:
            assert most > 0

    with pytest.raises(OSError, match="cannot be started"):
        Pump(Library())  # type: ignore[arg-type]


def test_buffers_are_as_large_as_the_library_says() -> None:
    assert LIBRARY is not None
    assert LIBRARY.pump_held_bytes() > LIBRARY.pump_longest_event() + 16 * 1024
    assert LIBRARY.pump_text_bytes() > LIBRARY.pump_longest_event()
