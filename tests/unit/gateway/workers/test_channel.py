"""The channel: whole messages in order, whatever the pieces; nonsense and a peer that is gone end it."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from secondsource.gateway.workers.channel import LARGEST_MESSAGE, Channel
from secondsource.gateway.workers.messages import Adopt, Find, FromCoordinator, Message, Stop, Tell

Pair = tuple[Channel[Any], asyncio.Queue[Any], asyncio.Event, socket.socket]


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    """A channel, what it heard, whether it was lost, and the bare other end."""
    ours, theirs = socket.socketpair()
    heard: asyncio.Queue[Any] = asyncio.Queue()
    lost = asyncio.Event()
    channel: Channel[Any] = Channel(msgspec.msgpack.Decoder(FromCoordinator), heard.put_nowait, lost.set)
    await asyncio.get_running_loop().create_unix_connection(lambda: channel, sock=ours)
    theirs.setblocking(False)
    yield channel, heard, lost, theirs
    channel.close()
    theirs.close()


def framed(message: Message) -> bytes:
    data = msgspec.msgpack.encode(message)
    return len(data).to_bytes(4, "big") + data


async def test_messages_come_whole_and_in_order_however_they_are_cut(pair: Pair) -> None:
    _, heard, _, theirs = pair
    messages = [Tell(number=1), Find(number=2, request_id="é" * 5000), Adopt(worker=2, adopted=True), Stop(grace_s=1.5)]
    data = b"".join(framed(message) for message in messages)
    loop = asyncio.get_running_loop()
    for start in range(0, len(data), 777):
        await loop.sock_sendall(theirs, data[start : start + 777])
    async with asyncio.timeout(10):
        assert [await heard.get() for _ in messages] == messages


async def test_what_is_sent_is_what_was_said(pair: Pair) -> None:
    channel, _, _, theirs = pair
    channel.send(Tell(number=7))
    async with asyncio.timeout(10):
        assert await asyncio.get_running_loop().sock_recv(theirs, 1000) == framed(Tell(number=7))


@pytest.mark.parametrize("nonsense", [b"\0\0\0\x02{}", (LARGEST_MESSAGE + 1).to_bytes(4, "big")])
async def test_nonsense_ends_it(pair: Pair, nonsense: bytes) -> None:
    channel, heard, lost, theirs = pair
    await asyncio.get_running_loop().sock_sendall(theirs, nonsense)
    async with asyncio.timeout(10):
        await lost.wait()
    assert heard.empty()
    assert not channel.open


async def test_a_peer_that_is_gone_is_told_and_hears_nothing(pair: Pair) -> None:
    channel, _, lost, theirs = pair
    theirs.close()
    async with asyncio.timeout(10):
        await lost.wait()
    channel.send(Tell(number=1))
    assert not channel.open
