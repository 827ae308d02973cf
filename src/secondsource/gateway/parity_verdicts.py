"""The rulings of `secondsource parity`, read at the start and whenever a file of theirs changes."""

from pathlib import Path

from secondsource.core.fleet import Fleet
from secondsource.core.parity_record import is_at_par, read_record, record_path
from secondsource.policy.routing import Router

_Stamp = tuple[int, int, int] | None


class ParityVerdicts:
    """Knows which pools that must be at par are so; owns nothing but what it saw of their files last."""

    def __init__(self, fleet: Fleet) -> None:
        state_dir = Path(fleet.state_dir)
        self._watched = {pool: record_path(state_dir, pool.name) for pool in fleet.pools if pool.require_parity}
        self._seen: list[_Stamp] | None = None

    def refresh(self, router: Router) -> None:
        """Tell the router who is at par, if a file has changed since the last time; a look costs a `stat` a pool."""
        if not self._watched:
            return
        seen = [_stamp(path) for path in self._watched.values()]
        if seen != self._seen:
            self._seen = seen
            router.admit({pool.name for pool, path in self._watched.items() if is_at_par(pool, read_record(path))})


def _stamp(path: Path) -> _Stamp:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
