"""Reads what is new in the request log, whichever processes write it and however often its files are moved."""

import os
import re
import threading
from contextlib import suppress
from pathlib import Path

OPEN_ENDS = re.compile(r"requests(?:\.w\d+)?\.jsonl")  # the newest file of each writer; older ones have numbers
FIRST_BYTES = 2 * 1024 * 1024  # of each file, when it is opened for the first time
MOST_BYTES = 8 * 1024 * 1024  # of each file at a time


class LogTail:
    """The newest lines of every request log in a state directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files: dict[str, _Followed] = {}
        self._lock = threading.Lock()  # whoever stops watching may close while a thread still reads

    def read(self) -> list[bytes]:
        """Return the whole lines that were written since the last call; at the first call, the last few thousand."""
        with self._lock:
            with suppress(FileNotFoundError):
                for name in sorted(os.listdir(self._directory)):
                    if OPEN_ENDS.fullmatch(name) and name not in self._files:
                        self._files[name] = _Followed(self._directory / name)
            return [line for followed in self._files.values() for line in followed.read()]

    def close(self) -> None:
        """Let go of every file."""
        with self._lock:
            for followed in self._files.values():
                followed.close()
            self._files.clear()


class _Followed:
    """One file by name: what it names may be moved away and begun anew."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        self._offset = 0
        self._first = True

    def read(self) -> list[bytes]:
        lines: list[bytes] = []
        with suppress(OSError):  # what cannot be read now may be at the next look
            if self._file is None and not self._open():
                return lines
            lines = self._read_on()
            if self._is_moved():
                lines += self._read_on()
                self.close()
                if self._open():
                    lines += self._read_on()
        return lines

    def _open(self) -> bool:
        try:
            self._file = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK)
        except FileNotFoundError:
            return False
        size = os.fstat(self._file).st_size
        self._offset = max(0, size - FIRST_BYTES) if self._first else 0
        self._first = False
        if self._offset:  # in the middle of a line, most likely
            data = os.pread(self._file, FIRST_BYTES, self._offset)
            self._offset += data.find(b"\n") + 1
        return True

    def _is_moved(self) -> bool:
        assert self._file is not None
        try:
            return os.stat(self._path).st_ino != os.fstat(self._file).st_ino
        except FileNotFoundError:
            return True

    def _read_on(self) -> list[bytes]:
        assert self._file is not None
        data = os.pread(self._file, MOST_BYTES, self._offset)
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        return whole.splitlines()

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
