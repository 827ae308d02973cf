"""The place of a service among the processes of a gateway: alone, or one of several workers under a coordinator."""

import socket
from collections.abc import Sequence
from typing import Protocol

from secondsource.core.fleet import Pool
from secondsource.core.records import LedgerRecord
from secondsource.gateway.books.running_counts import RunningCounts
from secondsource.gateway.limiting import LimitsSource
from secondsource.policy.limits import MeterFactory, PastUse
from secondsource.policy.place_table import PlaceTable
from secondsource.policy.routing import Router


class ProcessBooks(Protocol):
    """The books as the process sees them that makes the attempts."""

    @property
    def refusing(self) -> bool:
        """Whether new work must be refused, as it could not be written."""

    @property
    def counts(self) -> RunningCounts | None:
        """Where running streams are counted, once the books are open and where there is room."""

    async def start(self) -> object:
        """Open."""

    def append(self, record: LedgerRecord) -> None:
        """Write one record; raises JournalError when a reservation cannot be written."""

    async def used_so_far(self) -> list[PastUse]:
        """Return what keys and tenants used today and of late, where that is counted here."""

    async def reload(self, pools: Sequence[Pool]) -> None:
        """Take other pools."""

    async def stop(self) -> None:
        """Write the rest and let go."""


class Place(Protocol):
    """What a worker is given in place of what a single process makes for itself.

    Its coordinator probes replicas, owns the ledger and shows the admin pages; the worker answers clients.
    """

    number: int  # of the worker, from 1
    books: ProcessBooks
    sockets: Sequence[socket.socket]  # to accept clients on
    limits_source: LimitsSource
    make_meter: MeterFactory
    guests: PlaceTable  # clients that were told to come back, by whichever worker

    def share_circuits(self, router: Router) -> None:
        """Give every replica of a router, those that are new to it above all, a circuit that others share."""
