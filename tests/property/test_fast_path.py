"""Whatever a replica streams, however the network cuts it: the short way and the long way send and note the same."""

import asyncio
import json
import re
import time
from typing import Any, NamedTuple

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from secondsource.core.records import Settled
from secondsource.gateway.fast_path import ChunkWriter, ends_a_chunk
from secondsource.gateway.upstream import ReplicaClient, Target, UpstreamConnection
from secondsource.gateway.wire.event_shape import inner_text, shape_of
from secondsource.policy.replica import Replica
from tests.fleets import pool
from tests.streams import Json, ask, chunk, counts, cuts, pieces_of, says, stream
from tests.unit.gateway.stage import Connection, Stage

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
NOT_ALIKE = ("at_ns", "duration_ns", "first_token_ns", "replica_ns", "cost_nano_usd", "tenant_nano_usd")


class Wire(asyncio.Transport):
    """A connection whose other end is the test."""

    paused = 0

    def write(self, data: Any) -> None:
        """Take a request."""

    def is_closing(self) -> bool:
        """It stays open."""
        return False

    def abort(self) -> None:
        """It stays open."""

    def pause_reading(self) -> None:
        """Note that others have their turn."""
        self.paused += 1

    def resume_reading(self) -> None:
        """It reads anyway."""


class Client(Connection):
    """A client that takes chunks as they come, and counts them."""

    def __init__(self) -> None:
        super().__init__()
        self.chunks = 0

    def chunk_writer(self) -> ChunkWriter:
        return self

    def is_closing(self) -> bool:
        return bool(self.ended)

    def write(self, data: bytes) -> None:
        while data:
            digits, _, rest = data.partition(b"\r\n")
            assert re.fullmatch(rb"[1-9a-fA-F][0-9a-fA-F]*", digits)
            size = int(digits, 16)
            assert rest[size : size + 2] == b"\r\n"
            self.chunks += 1
            self.send(rest[:size])
            data = rest[size + 2 :]


class Played(NamedTuple):
    """What became of a stream."""

    body: bytes
    ended: int
    kept: bool
    texts: list[str]
    tokens: int
    settled: list[Json]
    chunks: int


async def play(reads: list[bytes], *, fast: bool) -> Played:
    """Let one replica answer a request in these reads."""
    connections: list[UpstreamConnection] = []

    def client_of(replica: Replica) -> ReplicaClient:
        client = ReplicaClient(Target(replica.url, None, None), 1.0)
        kept = UpstreamConnection(client)
        kept.connection_made(Wire())
        connections.append(kept)
        client.keep(kept, streamed=False)
        return client

    connection = Client() if fast else Connection()
    stage = Stage(ask(), pool("a"), connection=connection, client_of=client_of)
    for read in reads:
        connections[0].data_received(read)
    stage.exchange.client_gone()  # whatever has not ended does so now
    settled = [json.loads(json.dumps(_alike(record))) for record in stage.records if isinstance(record, Settled)]
    texts = [choice.text for choice in stage.exchange.delivered.choices.values()]
    chunks = connection.chunks if isinstance(connection, Client) else 0
    tokens = stage.exchange.delivered.tokens
    return Played(connection.body, connection.ended, connection.kept, texts, tokens, settled, chunks)


def _alike(record: Settled) -> Json:
    return {name: getattr(record, name) for name in record.__struct_fields__ if name not in NOT_ALIKE}


def framed(data: bytes, *, upper: bool = False) -> bytes:
    """Return bytes as one chunk."""
    return (b"%X\r\n%b\r\n" if upper else b"%x\r\n%b\r\n") % (len(data), data)


TEXTS = st.text(min_size=1, max_size=12) | st.sampled_from([" the", '"', "\\", "\n", "é", "😀", "stop", "m", "0"])
EVENTS = st.one_of(
    TEXTS.map(says),
    TEXTS.map(lambda text: json.dumps(json.loads(says(text)), ensure_ascii=False).encode(errors="replace")),
    st.builds(
        lambda text, second: chunk([{"index": 0, "delta": {"content": text}}], created=second),
        TEXTS,
        st.integers(0, 2),
    ),
    TEXTS.map(lambda text: chunk([{"index": 0, "delta": {"content": text}}], usage=None)),
    st.sampled_from(
        [
            says("x", index=1),
            says("x", reasoning_content="so"),
            says(""),
            counts(3, 2),
            b"not json",
            b'{"choices": 7}',
            b'{"error": {"message": "no"}}',
        ]
    ),
)


@given(st.lists(EVENTS, max_size=20), st.lists(st.integers(1, 3), max_size=20), cuts(), st.booleans(), st.booleans())
def test_both_ways_are_one(payloads: list[bytes], sizes: list[int], cut: list[int], upper: bool, whole: bool) -> None:
    payloads = [says("Once"), *payloads, says(finish="stop"), counts(5, 5)]
    events = [stream(payload, done=False) for payload in payloads] + [b"data: [DONE]\n\n"]
    chunks: list[bytes] = []
    for size in [*sizes, *[1] * len(events)]:
        taken, events = events[:size], events[size:]
        if taken:
            chunks.append(framed(b"".join(taken), upper=upper))
    body = [*chunks, b"0\r\n\r\n"]
    reads = [HEAD, *(body if whole else pieces_of(b"".join(body), cut))]
    quick, slow = asyncio.run(play(reads, fast=True)), asyncio.run(play(reads, fast=False))
    assert quick._replace(chunks=0) == slow


@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=4), cuts())
def test_a_read_ends_a_chunk_only_if_it_does(bodies: list[bytes], cut: list[int]) -> None:
    data = b"".join(map(framed, bodies))
    if len(bodies[-1]) > 10:
        assert ends_a_chunk(data, bodies[-1])
    for piece in pieces_of(data, cut)[:-1]:  # what llhttp hands on last of a read is in it, and is not its framing
        handed = [body for body in bodies if body in piece]
        assert not any(ends_a_chunk(piece + b"5\r\n", body) for body in handed)
    assert not ends_a_chunk(data + b"1a\r\n", bodies[-1])


@given(TEXTS, TEXTS)
def test_a_shape_stands_for_events_that_say_the_same_of_another_text(one: str, other: str) -> None:
    event = b"data: " + says(one)
    shape = shape_of(event, 0, one, event)
    if shape is None:
        reject()
    for raw in (other.encode(), json.dumps(other).encode()[1:-1]):
        said = inner_text(raw)
        if said is not None:
            event = (shape.before + raw + shape.after).removeprefix(b"data: ")
            assert json.loads(event) == json.loads(says(said))


def test_events_that_come_together_take_the_short_way_together() -> None:
    events = [framed(stream(says(f" word{number}"), done=False)) for number in range(50)]
    reads = [b"".join(events[start : start + 5]) for start in range(0, 50, 5)]
    odd = stream(says("😀"), done=False)  # in two escapes
    last = b"".join([*events[:3], framed(odd), *events[:2]])  # the short way, the long one, and what follows it
    played = asyncio.run(play([HEAD, *reads, last, b"".join(events[:4])], fast=True))
    assert played.tokens == 50 + 6 + 4
    assert played.chunks == 45 + 3 + 4


def test_the_commonplace_stream_takes_the_short_way() -> None:
    payloads = [says(f" word{number}") for number in range(50)] + [says(finish="stop")]
    reads = [HEAD, *(framed(stream(payload, done=False)) for payload in payloads), framed(b"data: [DONE]\n\n")]
    played = asyncio.run(play([*reads, b"0\r\n\r\n"], fast=True))
    assert played.tokens == 50
    assert played.ended == 1
    assert played.chunks == 48, "all but the first, which is sent with the head, and the one that was learnt from"


@pytest.mark.parametrize("moved", [b"+%x", b"0%x", b"%x;ext=1", b" %x"])
def test_a_chunk_that_readers_may_read_differently_goes_the_long_way(moved: bytes) -> None:
    events = [stream(says(f" word{number}"), done=False) for number in range(6)]
    odd = [moved % len(event) + b"\r\n" + event + b"\r\n" for event in events[3:]]
    played = asyncio.run(play([HEAD, *map(framed, events[:3]), *odd], fast=True))
    assert played.chunks == 1
    assert played.tokens <= 6


def test_a_stream_of_ever_new_shapes_is_not_looked_at_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[bytes] = []

    def look(event: bytes, index: int, text: str, sent: bytes) -> None:
        looked.append(event)

    monkeypatch.setattr("secondsource.gateway.wire.relay.shape_of", look)
    payloads = [chunk([{"index": 0, "delta": {"content": "x"}}], created=number) for number in range(200)]
    asyncio.run(play([HEAD, *(framed(stream(payload, done=False)) for payload in payloads)], fast=True))
    assert 1 < len(looked) < 16


def test_the_books_hear_of_an_answer_that_takes_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    began = time.monotonic()
    passed = iter(range(10_000))
    monkeypatch.setattr(time, "monotonic", lambda: began + next(passed) / 10)
    reads = [HEAD, *(framed(stream(says(f" w{number}"), done=False)) for number in range(200))]
    noted: list[int] = []
    written = Stage.write

    def write(stage: Stage, record: Any, reserved: Any) -> None:
        if type(record).__name__ == "Noted":
            noted.append(record.tokens_out)
        written(stage, record, reserved)

    monkeypatch.setattr(Stage, "write", write)
    assert asyncio.run(play(reads, fast=True)).chunks == 198
    assert len(noted) > 5
    assert noted == sorted(noted)


async def test_a_long_read_on_the_short_way_lets_others_have_their_turn() -> None:
    stage_wire = Wire()
    client = ReplicaClient(Target("http://a", None, None), 1.0)
    kept = UpstreamConnection(client)
    kept.connection_made(stage_wire)
    client.keep(kept, streamed=False)
    Stage(ask(), pool("a"), connection=Client(), client_of=lambda _: client)
    events = [framed(stream(says(f" word{number}"), done=False)) for number in range(3000)]
    for read in (HEAD, *events[:3], b"".join(events[3:1000])):
        kept.data_received(read)
    assert stage_wire.paused == 1
    await asyncio.sleep(0)
    kept.data_received(events[-1])
    assert stage_wire.paused == 1
