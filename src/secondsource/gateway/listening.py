"""The public listener: one socket an address, or, for several workers, one a worker, among which the kernel spreads."""

import asyncio
import errno
import socket
from collections.abc import Callable, Sequence

from secondsource.core.errors import InputError

BACKLOG = 4096
# libuv takes one client from a socket in a turn of its loop. Where turns are long because much is asked, the last of
# some hundred clients that come together would wait for seconds; so each socket is watched so many times.
ACCEPTED_AT_ONCE = 16
# The kernel would take megabytes for a client that does not read, all made, paid for and kept in case of a cut.
CLIENT_SEND_BUFFER = 128 * 1024


def url_of(host: str, port: int) -> str:
    """Return the base URL of a listener."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def bind(host: str, port: int, sharers: int = 0) -> list[list[socket.socket]]:
    """Return listening sockets for every address of `host`: one set, or one set each for so many processes.

    Raises InputError when that cannot be, above all when the port is taken.
    """
    loop = asyncio.get_running_loop()
    sets: list[list[socket.socket]] = [[] for _ in range(max(sharers, 1))]
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in dict.fromkeys(found):
            if family == socket.AF_INET6 and not socket.has_ipv6:
                continue
            if sharers:
                # Without sharing first: another gateway that shares the port would take a part of our clients.
                _bound(family, address, port, shared=False).close()
            for one in sets:
                one.append(_bound(family, address, port, shared=sharers > 0))
                port = port or one[-1].getsockname()[1]  # one port for all where any free one will do
    except OSError as error:
        for one in sets:
            for listening in one:
                listening.close()
        if error.errno == errno.EADDRINUSE:
            raise InputError(f"port {port} on {host} is taken by another program; choose another") from error
        raise InputError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    return sets


def _bound(family: int, address: Sequence[object], port: int, *, shared: bool) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # What is accepted inherits it.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, CLIENT_SEND_BUFFER)
        listening.bind((address[0], port, *address[2:]))
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except BaseException:
        listening.close()
        raise
    return listening


class Listening:
    """Accepts clients on some sockets; a process may take over those of another that died."""

    def __init__(self, connect: Callable[[], asyncio.Protocol]) -> None:
        self._connect = connect
        self._servers: dict[int, list[asyncio.Server]] = {}

    async def accept_on(self, owner: int, sockets: Sequence[socket.socket]) -> None:
        """Accept on the sockets of this owner, which stay open when accepting ends."""
        loop = asyncio.get_running_loop()
        servers = [
            await loop.create_server(self._connect, sock=one.dup(), backlog=BACKLOG)
            for one in sockets
            for _ in range(ACCEPTED_AT_ONCE)
        ]
        self._servers.setdefault(owner, []).extend(servers)

    def leave(self, owner: int) -> None:
        """Accept no more on the sockets of this owner; clients that are connected stay."""
        for server in self._servers.pop(owner, []):
            server.close()

    def close(self) -> None:
        """Accept no more."""
        for owner in list(self._servers):
            self.leave(owner)
