"""What a gateway has once, however many of its processes answer clients: ledger, prober and admin listener."""

import asyncio
from pathlib import Path

from secondsource.core.fleet import Fleet
from secondsource.gateway.admin.application import Shown, build_admin
from secondsource.gateway.admin.server import AdminServer
from secondsource.gateway.books.books import Books
from secondsource.gateway.fleet_clients import FleetClients
from secondsource.gateway.listening import url_of
from secondsource.gateway.probe import Prober

FIRST_ROUND_S = 2.0


class Office:
    """Owns the ledger, the prober and the admin listener, from `open` to `close`."""

    def __init__(self, fleet: Fleet, clients: FleetClients) -> None:
        self.books = Books(Path(fleet.state_dir), fleet.pools)
        self.admin_url = ""
        self._address = fleet.admin.host, fleet.admin.port
        self._clients = clients
        self._prober = Prober(clients.in_service)
        self._admin: AdminServer | None = None
        self._shows = False
        self._probing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Ask every replica once, and take the admin listener's port; raises InputError for one that is taken."""
        await self._prober.first_round(FIRST_ROUND_S)
        host, port = self._address
        self._admin = AdminServer(host, port)
        self.admin_url = url_of(host, self._admin.port)

    async def show(self, shown: Shown) -> None:
        """Show this on the admin listener from now on."""
        assert self._admin is not None, "the office is not open"
        if self._shows:
            self._admin.show(build_admin(shown))
            return
        self._shows = True
        await self._admin.start(build_admin(shown))
        self._probing = asyncio.create_task(self._prober.run(), name="probe")

    async def reload(self, fleet: Fleet, shown: Shown) -> None:
        """Take another fleet, which the clients have taken already."""
        self._prober.reload(self._clients.in_service)
        if self._shows:
            await self.show(shown)
        await self.books.reload(fleet.pools)

    async def close(self) -> None:
        """Let go of the admin listener and probe no more; the books are closed by who opened them."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.gather(self._probing, return_exceptions=True)
        if self._admin is not None:
            await self._admin.stop()
