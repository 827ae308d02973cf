"""Which processes live: each holds a lock on a file of its own, and the kernel lets go of it when the process dies."""

import contextlib
import fcntl
import os
import secrets
from pathlib import Path

SUFFIX = ".alive"


class SignOfLife:
    """The lock of this process, under a name that no other has had."""

    def __init__(self, directory: Path) -> None:
        self.owner = secrets.token_hex(8)
        self._path = directory / f"{self.owner}{SUFFIX}"
        unborn = self._path.with_suffix(".new")
        self._file = os.open(unborn, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        unborn.rename(self._path)  # nobody sees it unlocked while we live

    def end(self) -> None:
        """Let go, as a death would."""
        self._path.unlink(missing_ok=True)
        os.close(self._file)


def lives(directory: Path, owner: str) -> bool:
    """Return whether the process of this name lives."""
    try:
        descriptor = os.open(directory / f"{owner}{SUFFIX}", os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def remove_dead(directory: Path) -> None:
    """Remove the files of processes that have died."""
    for path in directory.glob(f"*{SUFFIX}"):
        if not lives(directory, path.stem):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
