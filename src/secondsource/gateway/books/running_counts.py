"""Counts of running streams, in a file that the pump's thread writes into as it goes: a store to memory for each event.

The kernel keeps what a killed process has written, so the books know what had been passed on to the last event. What a
dead writer left is read when its open attempts are settled.
"""

import ctypes
import mmap
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SUFFIX = ".counts"
LONGEST_ID = 40  # bytes
_SLOT = struct.Struct(f"=QQq{LONGEST_ID}s")  # tokens, monotonic ns of the last, wall less monotonic ns, whose


class Count(NamedTuple):
    """What an attempt had made when its process died."""

    attempt_id: str
    tokens_out: int
    at_ns: int  # of the last token, by the wall clock


class RunningCounts:
    """Owns one process's file of counts."""

    def __init__(self, path: Path, slots: int) -> None:
        """Make the file; raises OSError where there is no room for it."""
        self._path = path
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, slots * _SLOT.size)  # a full disk would kill whoever writes to a hole
            self._map = mmap.mmap(descriptor, slots * _SLOT.size)
        except OSError:
            path.unlink()
            raise
        finally:
            os.close(descriptor)
        self._anchor = ctypes.c_char.from_buffer(self._map)
        self._start = ctypes.addressof(self._anchor)
        self._free = list(range(slots - 1, -1, -1))

    def take(self, attempt_id: str, tokens_out: int) -> int | None:
        """Return the address of an attempt's two numbers (its tokens, when the last came); None where there is none."""
        name = attempt_id.encode()
        if not self._free or len(name) > LONGEST_ID:
            return None
        slot, now_ns = self._free.pop(), time.monotonic_ns()
        _SLOT.pack_into(self._map, slot * _SLOT.size, tokens_out, now_ns, time.time_ns() - now_ns, name)
        return self._start + slot * _SLOT.size

    def free(self, address: int) -> None:
        """Forget an attempt that nobody counts any more."""
        at = address - self._start
        _SLOT.pack_into(self._map, at, 0, 0, 0, b"")
        self._free.append(at // _SLOT.size)

    def close(self) -> None:
        """Remove the file; all that was counted is settled."""
        del self._anchor
        self._map.close()
        self._path.unlink(missing_ok=True)


def path_of(journals: Path, writer: str) -> Path:
    """Return the file of a writer's counts."""
    return journals / (writer + SUFFIX)


def read_counts(path: Path) -> Iterator[Count]:
    """Yield what a dead process had counted; nothing where it had no such file."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    for tokens_out, last_ns, wall_ns, name in _SLOT.iter_unpack(data[: len(data) // _SLOT.size * _SLOT.size]):
        attempt_id = name.rstrip(b"\0").decode("ascii", "replace")
        if attempt_id:
            yield Count(attempt_id, tokens_out, last_ns + wall_ns)
