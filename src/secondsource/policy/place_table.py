"""Who was told to come back, and when: a table of fixed size in one piece of memory, which workers can share.

Every worker writes places into a part of its own and reads all parts, so that a client is known to whichever worker it
comes back to. A fingerprint has a row of `WAYS` entries to be in; what has lapsed there is written over. An entry is
written with its fingerprint last and taken by wiping it: nobody waits for anybody, and the worst that two at once can
do is to serve one guest as if it came anew.
"""

from typing import NamedTuple

WAYS = 8
ROWS = 2**14
WORD = 8
TABLE_BYTES = 3 * ROWS * WAYS * WORD  # of each worker: 3 MiB for 131,072 places


class Kept(NamedTuple):
    """One place; times are seconds on the callers' clock, which is the machine's."""

    at: float
    until: float
    entry: int  # where it is in the table


class PlaceTable:
    """The places of all workers, seen by one of them."""

    __slots__ = ("_at", "_base", "_bases", "_fingerprints", "_until")

    def __init__(self, memory: memoryview | None = None, workers: int = 1, worker: int = 1) -> None:
        """Take zeroed memory of `workers` times `TABLE_BYTES`, or make it; `worker` counts from 1."""
        whole = memoryview(bytearray(workers * TABLE_BYTES)) if memory is None else memory
        third = workers * ROWS * WAYS * WORD
        self._fingerprints = whole[:third].cast("Q")
        self._at = whole[third : 2 * third].cast("d")
        self._until = whole[2 * third : 3 * third].cast("d")
        self._bases = [part * ROWS * WAYS for part in range(workers)]
        self._base = self._bases.pop(worker - 1)

    def keep(self, fingerprint: int, at: float, until: float, now: float) -> bool:
        """Keep a place, instead of the one that this fingerprint may have; returns whether there was room for it."""
        first = self._base + fingerprint % ROWS * WAYS
        row = self._fingerprints[first : first + WAYS].tolist()
        if fingerprint in row:
            entry = first + row.index(fingerprint)
        else:
            free = (first + way for way, held in enumerate(row) if not held or self._until[first + way] < now)
            entry = next(free, -1)
            if entry < 0:
                return False
        self._fingerprints[entry] = 0
        self._at[entry], self._until[entry] = at, until
        self._fingerprints[entry] = fingerprint
        return True

    def find(self, fingerprint: int) -> Kept | None:
        """Return the place of a fingerprint, whichever worker has promised it; one that has lapsed may be there yet."""
        found = self.find_own(fingerprint)
        for base in self._bases:
            if found is not None:
                break
            found = self._find_in(base, fingerprint)
        return found

    def find_own(self, fingerprint: int) -> Kept | None:
        """Return the place of a fingerprint that this worker has promised."""
        return self._find_in(self._base, fingerprint)

    def _find_in(self, base: int, fingerprint: int) -> Kept | None:
        first = base + fingerprint % ROWS * WAYS
        row = self._fingerprints[first : first + WAYS].tolist()
        if fingerprint not in row:
            return None
        entry = first + row.index(fingerprint)
        return Kept(self._at[entry], self._until[entry], entry)

    def take(self, kept: Kept) -> None:
        """Give a place out, or forget it."""
        self._fingerprints[kept.entry] = 0


def wiped_parts(workers: int, worker: int) -> list[slice]:
    """Return the bytes to wipe of what a worker that is gone had promised."""
    part = ROWS * WAYS * WORD
    firsts = [third * workers * part + (worker - 1) * part for third in range(3)]
    return [slice(first, first + part) for first in firsts]
