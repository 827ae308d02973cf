"""What each worker has in flight at each replica, and whom each told to come back: memory that they share.

Each number is one aligned word, and each attempt count has one writer; nobody waits for anybody. The coordinator makes
the board, gives replicas their places and wipes what a dead worker leaves.
"""

import mmap
import os
import tempfile

from secondsource.gateway.workers.messages import ReplicaName
from secondsource.policy.place_table import TABLE_BYTES, PlaceTable, wiped_parts

PLACES = 4096  # replicas; those beyond are counted by each worker for itself
WORD = 8


class Board:
    """The board, on a descriptor that workers inherit."""

    def __init__(self, descriptor: int, workers: int) -> None:
        self.descriptor = descriptor
        self._workers = workers
        self._memory = mmap.mmap(descriptor, _size(workers))
        counts = workers * PLACES * WORD
        self._words = memoryview(self._memory)[:counts].cast("q")
        self._until = memoryview(self._memory)[counts : 2 * counts].cast("d")
        self._guests = memoryview(self._memory)[2 * counts :]

    def write(self, worker: int, place: int, count: int) -> None:
        """Say how many attempts worker 1, 2, ... has in flight at the replica of this place."""
        self._words[(worker - 1) * PLACES + place] = count

    def others(self, worker: int, place: int) -> int:
        """Return how many attempts all other workers have in flight there."""
        words = self._words
        mine = (worker - 1) * PLACES + place
        return sum(words[at] for at in range(place, self._workers * PLACES, PLACES) if at != mine)

    def write_until(self, worker: int, place: int, until: float) -> None:
        """Say until when the replica of this place will be reading what a worker has sent it."""
        self._until[(worker - 1) * PLACES + place] = until

    def others_until(self, worker: int, place: int) -> float:
        """Return until when it will be reading what others have sent; a time that is over, or 0, for nothing."""
        until, mine = self._until, (worker - 1) * PLACES + place
        return max((until[at] for at in range(place, self._workers * PLACES, PLACES) if at != mine), default=0.0)

    def wipe(self, worker: int) -> None:
        """Forget what a worker that is gone had in flight."""
        for kind in range(2):
            first = (kind * self._workers + worker - 1) * PLACES
            self._memory[first * WORD : (first + PLACES) * WORD] = bytes(PLACES * WORD)
        for part in wiped_parts(self._workers, worker):
            self._guests[part] = bytes(part.stop - part.start)

    def guests(self, worker: int) -> PlaceTable:
        """Return the places of all workers' clients, as this worker keeps them; the board is not closed any more."""
        return PlaceTable(self._guests, self._workers, worker)

    def close(self) -> None:
        """Let go of the memory, and of the descriptor."""
        self._words.release()
        self._until.release()
        self._guests.release()
        self._memory.close()
        os.close(self.descriptor)


def new_board(workers: int) -> Board:
    """Return a board of zeros."""
    with tempfile.TemporaryFile() as file:
        file.truncate(_size(workers))
        return Board(os.dup(file.fileno()), workers)


def _size(workers: int) -> int:
    return workers * (2 * PLACES * WORD + TABLE_BYTES)


class Places:
    """Which replica has which place; one keeps its place for as long as the board is there."""

    def __init__(self) -> None:
        self._places: dict[ReplicaName, int] = {}

    def of(self, names: list[ReplicaName]) -> list[tuple[ReplicaName, int]]:
        """Return the places of these replicas, as far as there are any."""
        for name in names:
            if name not in self._places and len(self._places) < PLACES:
                self._places[name] = len(self._places)
        return [(name, self._places[name]) for name in names if name in self._places]


class Tally:
    """One worker's number for one replica; see `policy.accounting.Tally`."""

    __slots__ = ("_board", "_place", "_worker")

    def __init__(self, board: Board, worker: int, place: int) -> None:
        self._board = board
        self._worker = worker
        self._place = place

    def write(self, count: int) -> None:
        """Say how many attempts this worker has in flight."""
        self._board.write(self._worker, self._place, count)

    def others(self) -> int:
        """Return how many attempts the others have."""
        return self._board.others(self._worker, self._place)


class Reads:
    """Until when one replica will be reading, as one worker tells and hears it; see `policy.reading.Told`."""

    __slots__ = ("_board", "_place", "_worker")

    def __init__(self, board: Board, worker: int, place: int) -> None:
        self._board = board
        self._worker = worker
        self._place = place

    def write(self, until: float) -> None:
        """Say until when it will be reading what this worker has sent."""
        self._board.write_until(self._worker, self._place, until)

    def others(self) -> float:
        """Return until when it will be reading what the others have sent."""
        return self._board.others_until(self._worker, self._place)
