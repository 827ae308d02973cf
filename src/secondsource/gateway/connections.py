"""The clients that are connected: how many may be, how long one may idle or take to ask, and what all may ask."""

import time

from secondsource.core.fleet import Timeouts
from secondsource.gateway.client import ClientConnection
from secondsource.gateway.open_files import most_clients

MOST_CONNECTIONS = 50_000
LARGEST_BODIES = 16  # the bodies of all requests together may take as much memory as so many of the largest


class Connections:
    """Every client connection of a service."""

    def __init__(self, timeouts: Timeouts, largest_body: int) -> None:
        self._held = 0
        self._open: set[ClientConnection] = set()
        self._most = min(most_clients(), MOST_CONNECTIONS)
        self.reload(timeouts, largest_body)

    def reload(self, timeouts: Timeouts, largest_body: int) -> None:
        """Take other bounds, for the clients that are connected too."""
        self._timeouts = timeouts
        self._may_hold = LARGEST_BODIES * largest_body

    def opened(self, connection: ClientConnection) -> None:
        """Note a new connection; where there are too many, those go that have been idle for longest."""
        if len(self._open) >= self._most and not self._make_room():
            connection.abort()
        else:
            self._open.add(connection)

    def closed(self, connection: ClientConnection) -> None:
        """Note that a connection is gone."""
        self._open.discard(connection)

    def hold(self, size: int) -> bool:
        """Count bytes of request bodies that are held (negative: let go); returns False when that is too much."""
        self._held += size
        return self._held <= self._may_hold

    def close_overdue(self) -> None:
        """Close connections that are idle for too long, or whose request does not arrive."""
        now = time.monotonic()
        for connection in list(self._open):
            if not connection.busy:
                patience = self._timeouts.request if connection.arriving else self._timeouts.idle
                if now - connection.idle_since > patience:
                    connection.time_out()

    def close_idle(self) -> None:
        """Close every connection on which nothing is being answered."""
        for connection in list(self._open):
            if not connection.busy:
                connection.close()

    def abort_all(self) -> None:
        """Close every connection at once."""
        for connection in list(self._open):
            connection.abort()

    def _make_room(self) -> bool:
        """Close a tenth of the connections, so that this is seldom done; returns False if all are being answered."""
        idle = sorted((one for one in self._open if not one.busy), key=lambda one: one.idle_since)
        for connection in idle[: self._most // 10 + 1]:
            self._open.discard(connection)
            connection.abort()
        return bool(idle)
