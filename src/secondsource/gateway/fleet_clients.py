"""The clients of a fleet's replicas, through changes of the fleet: a replica that goes is let go of once it is idle."""

from collections.abc import Mapping

import msgspec

from secondsource.core.fleet import Fleet
from secondsource.gateway.client import Lines
from secondsource.gateway.deadlines import Deadlines
from secondsource.gateway.exchange import Surroundings, made_at
from secondsource.gateway.probe import make_clients
from secondsource.gateway.pump.pump import Pump
from secondsource.gateway.upstream import ReplicaClient
from secondsource.policy.replica import Replica
from secondsource.policy.routing import Router


class FleetClients:
    """Owns a client for each replica of the router, and for each one that still answers after it was removed."""

    def __init__(self, fleet: Fleet, secrets: Mapping[str, str], router: Router) -> None:
        self._clients: dict[Replica, ReplicaClient] = {}
        self._made_at: dict[str, Lines] = {}
        self._router = router
        self._deadlines = Deadlines()
        self._pump: Pump | None = None
        self.surroundings = self.reload(fleet, secrets)

    def reload(self, fleet: Fleet, secrets: Mapping[str, str]) -> Surroundings:
        """Take another fleet, which the router has taken already; returns what new exchanges share."""
        made = make_clients(fleet, secrets)
        for replica in self._router.replicas:
            if replica in self._clients:
                self._clients[replica].reload(fleet.timeouts.connect)
            else:
                self._clients[replica] = made[replica.pool.name, replica.url]
        self._made_at |= {pool.name: made_at(pool) for pool in fleet.pools}
        # The same dictionaries: requests that run may go on to replicas that are new to them.
        self.surroundings = Surroundings(
            self._clients, self._made_at, fleet.timeouts, fleet.limits, self._deadlines, self._pump
        )
        return self.surroundings

    def use_pump(self, pump: Pump) -> Surroundings:
        """Let commonplace events pass through the pump; returns what new exchanges share."""
        self._pump = pump
        self.surroundings = msgspec.structs.replace(self.surroundings, pump=pump)
        return self.surroundings

    @property
    def in_service(self) -> dict[Replica, ReplicaClient]:
        """The clients of the replicas that may be chosen."""
        return {replica: self._clients[replica] for replica in self._router.replicas}

    @property
    def leaving(self) -> list[Replica]:
        """The replicas that were removed and are not let go of yet."""
        staying = frozenset(self._router.replicas)
        return [replica for replica in self._clients if replica not in staying]

    def close_drained(self) -> None:
        """Let go of the removed replicas that have answered all they were asked."""
        for replica in self.leaving:
            if replica.in_flight == 0:
                self._clients.pop(replica).close()

    def close(self) -> None:
        """Let go of all."""
        for client in self._clients.values():
            client.close()
