"""Who takes an exchange's answer: a client's connection, or a job that several clients wait for."""

from typing import Protocol

from secondsource.gateway.client import Lines
from secondsource.gateway.fast_path import ChunkWriter


class Recipient(Protocol):
    """What an exchange says to whoever asked."""

    def respond(self, status: int, body: bytes, headers: Lines, content_type: bytes = b"application/json") -> None:
        """Take a whole answer."""

    def start_stream(self, headers: Lines, content_type: bytes, data: bytes) -> None:
        """Take the beginning of a streamed answer."""

    def send(self, data: bytes) -> None:
        """Take the next bytes of a streamed answer."""

    def chunk_writer(self) -> ChunkWriter | None:
        """Return where chunks of the streamed answer may be written as they are, or None where they may not."""

    def end_stream(self, data: bytes, *, keep: bool = True) -> None:
        """Take the last bytes of a streamed answer; not `keep` where it was broken off."""

    def abort(self) -> None:
        """Note that nothing follows, after a fault of our own."""
