"""Whatever a replica streams, however the network cuts it: the pump passes on what the short way would, and no more."""

import asyncio
import os
import socket
import time
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondsource.gateway.fast_path import is_size
from secondsource.gateway.pump.library import load_library
from secondsource.gateway.pump.pump import Owner, Pump
from secondsource.gateway.wire.event_shape import EventShape, inner_text
from tests.streams import cuts, pieces_of

SHAPE = EventShape(b'data: {"choices":[{"delta":{"content":"', b'"}}]}\n\n', 0)
LESS = EventShape(SHAPE.before, SHAPE.after, 0, SHAPE.before, b'"}}\n\n')  # some of it stays here
LIBRARY = load_library()
pytestmark = pytest.mark.skipif(LIBRARY is None, reason="the pump was not compiled: no C compiler")
WAIT_S = 20.0


def framed(event: bytes, size: bytes | None = None) -> bytes:
    return (b"%x" % len(event) if size is None else size) + b"\r\n" + event + b"\r\n"


def says(text: bytes) -> bytes:
    return SHAPE.before + text + SHAPE.after


def commonplace(data: bytes, longest: int) -> tuple[int, list[bytes]]:
    """Return how many bytes of `data` the pump may take, and their raw texts, by a reading of its own."""
    taken, raws = 0, []
    while True:
        line, found, rest = data[taken:].partition(b"\r\n")
        if not found or not line or not line.isalnum() or len(line) > 6:
            return taken, raws
        try:
            size = int(line, 16)
        except ValueError:
            return taken, raws
        raw = rest[len(SHAPE.before) : size - len(SHAPE.after)]
        if not is_size(line, size) or size > longest or rest[: size + 2] != says(raw) + b"\r\n":
            return taken, raws
        if inner_text(raw) is None:
            return taken, raws
        taken += len(line) + 2 + size + 2
        raws.append(raw)


def leaving(shape: EventShape, raws: list[bytes], came: bytes) -> bytes:
    """Return what leaves for the client of the texts of `came`."""
    if shape.as_it_came:
        return came
    return b"".join(framed(shape.sent_before + raw + shape.sent_after) for raw in raws)


class Passed(NamedTuple):
    """What became of a stream."""

    written: bytes
    unread: bytes
    texts: list[str]
    gave_back: bool


async def passed(
    pieces: list[bytes], *, shape: EventShape = SHAPE, longest: int = 8192, expected: int | None = None
) -> Passed:
    """Let the pump have a stream that comes in these pieces, until `expected` bytes have left, or not at all."""
    assert LIBRARY is not None
    pump = Pump(LIBRARY)
    (replica, upstream), (downstream, client) = socket.socketpair(), socket.socketpair()
    texts: list[str] = []
    back = asyncio.Event()
    unsent = bytearray()
    passage = pump.take(
        upstream.fileno(),
        downstream.fileno(),
        shape,
        longest,
        Owner(lambda new, _: texts.extend(new.read()), lambda: None, unsent.extend, back.set, "req_1.1", 0),
    )
    assert passage is not None
    client.setblocking(False)
    written = b""
    for piece in pieces:
        replica.sendall(piece)
        await asyncio.sleep(0)
    ends = time.monotonic() + WAIT_S
    while expected is not None and len(written) < expected and time.monotonic() < ends:
        written += _read(client)
        await asyncio.sleep(0)
    unread = passage.end()
    written += _read(client) + bytes(unsent)
    upstream.setblocking(False)
    unread += _read(upstream)
    pump.close()
    for end in (replica, upstream, downstream, client):
        end.close()
    return Passed(written, unread, texts, back.is_set())


def _read(end: socket.socket) -> bytes:
    got = b""
    while True:
        try:
            piece = end.recv(1 << 16)
        except BlockingIOError:
            return got
        if not piece:
            return got
        got += piece


ESCAPES = [
    rb"\n",
    rb"\"",
    rb"\\",
    rb"\/",
    rb"\u00e9",
    rb"\u0000",
    rb"\uD7ff",
    rb"\ud800",
    rb"\uDFFF",
    rb"\x",
    b"\\",
    rb"\u12",
    b"a",
]
TEXTS = st.one_of(
    st.text(min_size=1, max_size=12).map(lambda text: text.encode(errors="surrogatepass")),
    st.binary(min_size=1, max_size=6),  # which is seldom UTF-8
    st.lists(st.sampled_from(ESCAPES), min_size=1, max_size=4).map(b"".join),
    st.sampled_from([b" the", b'"', b"\\n", "é😀".encode(), b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\0"]),
)
CHUNKS = st.one_of(
    TEXTS.map(says).map(framed),
    st.sampled_from(
        [
            framed(says(b"")),
            framed(says(b"x"), b"0%x" % len(says(b"x"))),
            framed(says(b"x"), b"%x;ext=1" % len(says(b"x"))),
            framed(says(b"xxxx"), b"%X" % len(says(b"xxxx"))),
            framed(says(b"x" * 9000)),
            framed(says(b"x"), b"ffffffffffffffff"),
            framed(says(b"x"), b""),
            framed(says(b"x"))[:-2] + b"\n\n",
            framed(b"data: [DONE]\n\n"),
            framed(says(b"one") + says(b"two")),
            b"0\r\n\r\n",
        ]
    ),
)


@given(st.lists(CHUNKS, min_size=1, max_size=12), cuts(), st.sampled_from([8192, 100]), st.sampled_from([SHAPE, LESS]))
def test_it_passes_on_what_is_commonplace_and_loses_nothing(
    chunks: list[bytes], cut: list[int], longest: int, shape: EventShape
) -> None:
    data = b"".join(chunks)
    taken, raws = commonplace(data, longest)
    leaves = leaving(shape, raws, data[:taken])
    found = asyncio.run(passed(pieces_of(data, cut), shape=shape, longest=longest, expected=len(leaves)))
    assert found.written == leaves
    assert found.unread == data[taken:]
    assert found.texts == [inner_text(raw) for raw in raws]


@given(st.lists(TEXTS.map(says).map(framed), min_size=1, max_size=12), cuts(), st.sampled_from([SHAPE, LESS]))
def test_taken_back_at_any_moment_it_has_counted_what_it_passed_on(
    chunks: list[bytes], cut: list[int], shape: EventShape
) -> None:
    data = b"".join(chunks)
    found = asyncio.run(passed(pieces_of(data, cut), shape=shape))
    came = data[: len(data) - len(found.unread)]
    assert came + found.unread == data
    taken, raws = commonplace(came, 8192)
    assert taken == len(came)
    assert found.texts == [inner_text(raw) for raw in raws]
    assert found.written == leaving(shape, raws, came)


def test_streams_at_once_keep_to_their_own_clients() -> None:
    asyncio.run(_many(streams=60, events=40))


async def _many(streams: int, events: int) -> None:
    assert LIBRARY is not None
    descriptors = len(os.listdir("/proc/self/fd"))
    pump = Pump(LIBRARY)
    pairs = [(socket.socketpair(), socket.socketpair()) for _ in range(streams)]
    texts: list[list[str]] = [[] for _ in pairs]
    passages = []
    for number, ((_, upstream), (downstream, _)) in enumerate(pairs):
        owner = Owner(
            lambda new, _, number=number: texts[number].extend(new.read()),  # type: ignore[misc]
            lambda: None,
            bytearray().extend,
            lambda: None,
            "req_1.1",
            0,
        )
        passages.append(pump.take(upstream.fileno(), downstream.fileno(), SHAPE, 8192, owner))
    for event in range(events):
        for number, ((replica, _), _) in enumerate(pairs):
            replica.sendall(framed(says(b"%d of %d" % (event, number))))
        await asyncio.sleep(0)
    assert pump.streams == streams
    ends = time.monotonic() + WAIT_S
    while sum(map(len, texts)) < streams * events and time.monotonic() < ends:
        for passage in passages:
            assert passage is not None
            passage.catch_up()
        await asyncio.sleep(0)
    for number, (_, (_, client)) in enumerate(pairs):
        wanted = [f"{event} of {number}" for event in range(events)]
        assert texts[number] == wanted
        client.setblocking(False)
        assert _read(client) == b"".join(framed(says(text.encode())) for text in wanted)
    pump.close()
    for (replica, upstream), (downstream, client) in pairs:
        for end in (replica, upstream, downstream, client):
            end.close()
    assert len(os.listdir("/proc/self/fd")) <= descriptors
