"""How the files that a process may open are shared.

Three eighths are for clients and as many for the replicas that answer them; a quarter is for the pump, which has copies
of both for each of its streams.
"""

import resource

KEPT_FREE = 128  # for the books, the admin listener and probes
UNLIMITED = 1 << 20
MOST_PUMPED = 25_000  # streams: more than one thread can carry


def most_clients() -> int:
    """Return how many clients may be connected before files run out: each that is answered needs a replica's too."""
    return _shared() * 3 // 8


def most_pumped() -> int:
    """Return how many streams the pump may have: those above go through the interpreter."""
    return min(_shared() // 8, MOST_PUMPED)


def _shared() -> int:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max((UNLIMITED if files == resource.RLIM_INFINITY else files) - KEPT_FREE, 8)
