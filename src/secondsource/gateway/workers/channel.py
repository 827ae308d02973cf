"""The socket between the coordinator and one worker: messages in order, length first, and bounded both ways."""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar, cast

import msgspec

from secondsource.gateway.workers.messages import Message

LENGTH_BYTES = 4
LARGEST_MESSAGE = 64 * 1024 * 1024  # a fleet of a hundred thousand keys has some ten
MOST_UNREAD = 128 * 1024 * 1024  # of bytes written that the other side does not read: it is stuck, and given up

Heard = TypeVar("Heard")


class Channel(asyncio.Protocol, Generic[Heard]):
    """One end; `heard` takes each message, `lost` is called once when the other side is gone."""

    def __init__(
        self, decoder: msgspec.msgpack.Decoder[Heard], heard: Callable[[Heard], None], lost: Callable[[], None]
    ) -> None:
        self._decode = decoder.decode
        self._encode = msgspec.msgpack.Encoder().encode
        self._heard = heard
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._pending = bytearray()

    @property
    def open(self) -> bool:
        """Whether the other side is there, as far as is known."""
        return self._transport is not None and not self._transport.is_closing()

    def send(self, message: Message) -> None:
        """Send a message; nothing happens when the other side is gone. Never waits."""
        if not self.open:
            return
        assert self._transport is not None
        data = self._encode(message)
        self._transport.write(len(data).to_bytes(LENGTH_BYTES, "big") + data)
        if self._transport.get_write_buffer_size() > MOST_UNREAD:
            self._transport.abort()

    def close(self) -> None:
        """Say no more; what was said is still sent."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one, and does not say so

    def connection_lost(self, error: Exception | None) -> None:
        """End."""
        self._lost()

    def data_received(self, data: bytes) -> None:
        """Take bytes; a message that makes no sense ends the channel, for nothing after it can be understood."""
        pending = self._pending
        pending += data
        while len(pending) >= LENGTH_BYTES:
            length = int.from_bytes(pending[:LENGTH_BYTES], "big")
            if length > LARGEST_MESSAGE:
                self._give_up()
                return
            end = LENGTH_BYTES + length
            if len(pending) < end:
                return
            whole = bytes(pending[LENGTH_BYTES:end])
            del pending[:end]
            try:
                message = self._decode(whole)
            except msgspec.DecodeError:
                self._give_up()
                return
            self._heard(message)

    def _give_up(self) -> None:
        self._pending.clear()
        if self._transport is not None:
            self._transport.abort()
