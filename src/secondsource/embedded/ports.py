"""Free loopback ports for the sources."""

import errno
import secrets
import socket
from collections.abc import Callable, Iterable

from secondsource.core.errors import SecondsourceError

# Below the range from which systems draw the ports of outgoing connections (32768 and up on Linux): there, a
# probe of a dead source could be given the source's own port and be connected to itself, and any other
# program's connection could take the port while a source restarts.
_LOWEST, _HIGHEST = 20_000, 32_000


def is_free(port: int) -> bool:
    """Return whether a server could listen on this loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: a closing peer is no owner
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno in {errno.EADDRINUSE, errno.EACCES}:
                return False
            raise
        return True


def choose_free_ports(
    count: int, avoid: Iterable[int] = (), draw: Callable[[int], int] = secrets.randbelow
) -> tuple[int, ...]:
    """Return `count` distinct free loopback ports, none of them in `avoid`; `draw(n)` gives one of 0 … n - 1."""
    taken, chosen = set(avoid), []
    for _ in range(1000):
        port = _LOWEST + draw(_HIGHEST - _LOWEST)
        if port not in taken and is_free(port):
            taken.add(port)
            chosen.append(port)
            if len(chosen) == count:
                return tuple(chosen)
    raise SecondsourceError(f"no free loopback port was found between {_LOWEST} and {_HIGHEST} in 1000 tries")
