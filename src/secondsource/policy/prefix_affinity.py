"""Send a prompt where its beginning is cached: consistent hashing with bounded loads on the prompt's prefix blocks.

A conversation is known by its first blocks, those that everybody shares (a system prompt) left out. Its home is the
next replica on a hash ring that is not loaded above `BOUND` times the mean (Mirrokni, Thorup and Zadimoghaddam, 2016).
Where it was last is remembered and comes first, so that a conversation that had to move does not move back and forth.
Workers that share nothing agree on the ring; what they remember is their own.
"""

from bisect import bisect_right
from collections.abc import Sequence
from hashlib import blake2b
from math import exp

BOUND = 1.15  # of the mean load; answers that turn out long and caches that miss add to it
MEMORY_S = 120.0  # over which loads are compared: of a moment's few requests, one long one would be all
POINTS = 64  # of each replica on the ring
MOST_REMEMBERED = 100_000
COMMON = 0.02  # of all prompts: a block that more than this begin with says nothing of a conversation
COUNTED = 1000  # prompts between two halvings of those counts
BLOCK_BYTES = 2048
MOST_DEPTH = 8  # blocks that may be common, one after another


class PrefixAffinity:
    """Where conversations are at home among the replicas of one model, and where they were last."""

    __slots__ = ("_homes", "_last", "_loads", "_prompts", "_replicas", "_ring", "_seen")

    def __init__(self, replicas: Sequence[str]) -> None:
        self._replicas = {name: place for place, name in enumerate(replicas)}
        points = [
            (_point(f"{name}#{number}"), place) for name, place in self._replicas.items() for number in range(POINTS)
        ]
        self._ring = sorted(points)
        self._homes: dict[int, int] = {}  # conversation to place, least recently asked first
        self._seen: dict[int, int] = {}  # how often a block began a prompt of late
        self._prompts = 0
        self._loads = [0.0] * len(replicas)  # work of late
        self._last = 0.0

    def knows(self, blocks: Sequence[int]) -> bool:
        """Return whether a conversation that begins so has a home."""
        return any(block in self._homes for block in blocks[:MOST_DEPTH])

    def choose(self, blocks: Sequence[int], work: float, room: Sequence[bool], now: float) -> int | None:
        """Return the place of the replica for a prompt, or None where none has room; it counts as that one's load.

        `blocks`: hashes of the prompt's whole blocks, each over all tokens up to its end; `work` is in any one unit;
        `room` is in the order given to the constructor; times are seconds on the caller's clock.
        """
        having_room = [place for place, free in enumerate(room) if free]
        if not having_room:
            return None
        self._fade(now)
        loads = self._loads
        key = self._conversation(blocks)
        if key is None:
            place = min(having_room, key=loads.__getitem__)
            loads[place] += work
            return place
        most = BOUND * (sum(loads) + work) / len(loads)
        home = self._homes.pop(key, None)
        if home is None or not room[home] or loads[home] + work > most:
            home = self._next(key, work, room, most)
            if home is None:  # larger than the bound by itself
                home = min(having_room, key=loads.__getitem__)
        self._homes[key] = home
        if len(self._homes) > MOST_REMEMBERED:
            del self._homes[next(iter(self._homes))]
        loads[home] += work
        return home

    def correct(self, place: int, difference: float) -> None:
        """Add to a replica's load what a prompt's work was beyond what was expected; cached blocks make it less."""
        self._loads[place] = max(self._loads[place] + difference, 0.0)

    def _fade(self, now: float) -> None:
        if now > self._last:
            kept = exp((self._last - now) / MEMORY_S)
            self._last = now
            self._loads = [load * kept for load in self._loads]

    def _conversation(self, blocks: Sequence[int]) -> int | None:
        """Return the first block that is not everybody's; None where there is none."""
        self._prompts += 1
        if self._prompts >= COUNTED:
            self._prompts //= 2
            self._seen = {block: count // 2 for block, count in self._seen.items() if count > 1}
        for block in blocks[:MOST_DEPTH]:
            count = self._seen.get(block, 0) + 1
            self._seen[block] = count
            if count <= max(COMMON * self._prompts, 8.0):
                return block
        return None

    def _next(self, key: int, work: float, room: Sequence[bool], most: float) -> int | None:
        start = bisect_right(self._ring, (key & 0xFFFF_FFFF_FFFF_FFFF, -1))
        tried: set[int] = set()
        for step in range(len(self._ring)):
            place = self._ring[(start + step) % len(self._ring)][1]
            if place in tried:
                continue
            if room[place] and self._loads[place] + work <= most:
                return place
            tried.add(place)
            if len(tried) == len(self._loads):
                break
        return None


def prefix_blocks(text: bytes, block_bytes: int = BLOCK_BYTES, most: int = 64) -> list[int]:
    """Return the hashes of a prompt's whole blocks, each of all bytes up to its end, 64 bits wide.

    For a gateway that does not tokenise: bytes of the prompt as the client wrote it stand for tokens.
    """
    running = blake2b(digest_size=8)
    found = []
    for begin in range(0, min(len(text) // block_bytes, most) * block_bytes, block_bytes):
        running.update(text[begin : begin + block_bytes])
        found.append(int.from_bytes(running.copy().digest(), "big"))
    return found


def _point(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")
