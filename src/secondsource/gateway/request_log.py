"""The request log: one JSON line for each request, at its end, without a word of what was said unless asked for.

`<state_dir>/requests.jsonl` is the newest file; `requests.1.jsonl` is the one before it, and so on. Each of several
workers has files of its own: `requests.w1.jsonl`. What ends in
one turn of the loop is one `write` of whole lines, so that a reader never meets two lines in one. It is a
convenience and no record: what cannot be written is dropped and counted, and the request goes on. `docs/logs.md`
lists the fields.
"""

import errno
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from secondsource.core.records import Kind, Outcome, Reserved, Settled

ROTATE_AT_BYTES = 64 * 1024 * 1024
KEPT_FILES = 4  # besides the newest
LONGEST_TEXT = 256


class TriedLine(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt of a logged request."""

    pool: str
    supplier: str
    chip: str
    replica: str
    kind: Kind
    outcome: Outcome
    status: int
    duration_s: float
    tokens_in: int
    tokens_out: int
    cost_nano_usd: int = 0


class RequestLine(msgspec.Struct, frozen=True, kw_only=True):
    """One request that has ended; durations in seconds, `at` when it ended."""

    at: datetime
    request_id: str
    status: int  # what the client got; 499: it left before the end
    tenant: str = ""
    lane: str = ""
    key_id: str = ""
    method: str = ""
    endpoint: str = ""
    model: str = ""
    streamed: bool = False
    refusal: str | None = None  # why no replica was asked
    attempts: list[TriedLine] = []
    tokens_in: int = 0
    tokens_out: int = 0  # that the client got
    first_token_s: float | None = None
    duration_s: float = 0.0
    over_share: bool | msgspec.UnsetType = msgspec.UNSET  # true: an attempt broke its supplier's soft cap
    traceparent: str | None = None
    prompt: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET  # what was asked, where `[logging] prompts` wants it


class RequestLog:
    """The open end of the log; to be used from one thread."""

    def __init__(
        self, directory: Path, rotate_at: int = ROTATE_AT_BYTES, kept: int = KEPT_FILES, worker: int = 0
    ) -> None:
        self._name = f"requests.w{worker}" if worker else "requests"
        self.path = directory / f"{self._name}.jsonl"
        self.dropped = 0  # lines that could not be written
        self._directory = directory
        self._rotate_at = rotate_at
        self._kept = kept
        self._encode = msgspec.json.Encoder().encode
        self._file: int | None = None
        self._size = 0

    def write(self, lines: Sequence[RequestLine]) -> None:
        """Write some lines; never raises for what the disk does."""
        data = b"".join([self._encode(line) + b"\n" for line in lines])
        try:
            if self._file is None or self._size >= self._rotate_at:
                self._open()
            assert self._file is not None
            written = os.write(self._file, data)
            if written != len(data):
                # A full disk takes half of it; the next line must not run into that.
                os.ftruncate(self._file, self._size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._size += written
        except OSError:
            self.dropped += len(lines)
            self.close()

    def close(self) -> None:
        """Let go of the file; the next line opens it again."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _open(self) -> None:
        """Open the newest file, after moving it out of the way if it is full."""
        self.close()
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.path.exists() and self.path.stat().st_size >= self._rotate_at:
            for number in range(self._kept - 1, 0, -1):
                older = self._numbered(number)
                if older.exists():
                    older.replace(self._numbered(number + 1))
            self.path.replace(self._numbered(1))
        # Without O_NONBLOCK a pipe that somebody put here would hold up every request.
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK
        self._file = os.open(self.path, flags, 0o600)
        self._size = os.fstat(self._file).st_size

    def _numbered(self, number: int) -> Path:
        return self._directory / f"{self._name}.{number}.jsonl"


def tried(reserved: Reserved, settled: Settled) -> TriedLine:
    """Return an attempt as the log tells it."""
    return TriedLine(
        pool=reserved.pool,
        supplier=reserved.supplier,
        chip=reserved.chip,
        replica=reserved.replica,
        kind=reserved.kind,
        outcome=settled.outcome,
        status=settled.status,
        duration_s=settled.duration_ns / 1e9,
        tokens_in=settled.tokens_in,
        tokens_out=settled.tokens_out,
        cost_nano_usd=settled.cost_nano_usd,
    )


def on_one_line(text: bytes) -> msgspec.Raw:
    """Return JSON text without the white space around its parts, so that it cannot end a line."""
    return msgspec.Raw(msgspec.json.format(text, indent=-1))


def short_line(request_id: str, status: int, refusal: str | None, method: str = "", endpoint: str = "") -> RequestLine:
    """Return the line of a request that no replica was asked for; `refusal` is None where none was needed."""
    return RequestLine(
        at=datetime.now(UTC),
        request_id=request_id,
        status=status,
        method=method[:LONGEST_TEXT],
        endpoint=endpoint[:LONGEST_TEXT],
        refusal=refusal and refusal[:LONGEST_TEXT],
    )
