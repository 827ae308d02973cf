"""What each of several workers has in flight at a replica, in one process: as the gateway's board keeps it for many."""


class Tally:
    """One worker's number beside the others'; see `policy.accounting.Tally`."""

    def __init__(self, counts: list[int], worker: int) -> None:
        self._counts = counts
        self._worker = worker

    def write(self, count: int) -> None:
        """Say how many this worker has."""
        self._counts[self._worker] = count

    def others(self) -> int:
        """Return how many the others have."""
        return sum(self._counts) - self._counts[self._worker]
