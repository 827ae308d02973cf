"""The connections to one replica that wait for the next call; times are monotonic seconds, given by the caller.

Some replicas say that they keep a connection and close it after every stream: llama.cpp's server does. A request that
is sent right then is lost. So a connection that has had a stream is used again at once only where the replica was seen
to leave one open; elsewhere it has to stay open for a moment first.
"""

from typing import Generic, Protocol, TypeVar

MOST = 256
LONGEST_S = 4.0  # uvicorn, which serves most engines, closes after 5: a call must not cross that
STAYS_S = 0.1  # who closes after a stream does so at once


class Keepable(Protocol):
    """What is asked of a connection."""

    kept_since: float
    had_stream: bool

    def is_open(self) -> bool:
        """Return whether neither side has closed it, as far as is known."""

    def close(self) -> None:
        """Close without waiting for what is unsent."""


One = TypeVar("One", bound=Keepable)


class Kept(Generic[One]):
    """Connections, the one used last at the end."""

    __slots__ = ("_idle", "_stays")

    def __init__(self) -> None:
        self._idle: list[One] = []
        self._stays = False  # one that had a stream was seen to stay open

    def take(self, now: float) -> One | None:
        """Return the one used last of those that will stay open, or None."""
        idle = self._idle
        for place in range(len(idle) - 1, -1, -1):
            connection = idle[place]
            idle_s = now - connection.kept_since
            if idle_s >= LONGEST_S:
                old = idle[: place + 1]
                del idle[: place + 1]
                for one in old:
                    one.close()
                return None
            if connection.is_open() and (self._stays or not connection.had_stream or idle_s >= STAYS_S):
                self._stays = self._stays or connection.had_stream
                del idle[place]
                return connection
        return None

    def keep(self, connection: One, now: float, *, streamed: bool) -> bool:
        """Keep one whose answer is whole; `streamed`: it came in chunks. Returns False where there are enough."""
        if len(self._idle) >= MOST:
            return False
        connection.kept_since, connection.had_stream = now, streamed
        self._idle.append(connection)
        return True

    def closed(self, connection: One, now: float) -> None:
        """Note that one is closed, by either side."""
        if connection in self._idle:
            self._idle.remove(connection)
        if connection.had_stream and now - connection.kept_since < STAYS_S:
            self._stays = False
