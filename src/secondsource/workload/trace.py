"""Read traces of requests in the public formats, one row at a time, in bounded memory.

A trace is a sequence of arrivals in order of time. Formats: Azure LLM inference 2023 and 2024 (CSV),
BurstGPT (CSV), Mooncake (JSONL), and a plain CSV with the columns `t_s,input_tokens,output_tokens`.
"""

import csv
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import msgspec

from secondsource.core.errors import InputError


class Format(StrEnum):
    """A public format of traces of requests."""

    AZURE = "azure"  # TIMESTAMP,ContextTokens,GeneratedTokens: both years
    BURSTGPT = "burstgpt"  # Timestamp,...,Request tokens,Response tokens,...
    MOONCAKE = "mooncake"  # {"timestamp": ms, "input_length": n, "output_length": n, ...} a line
    PLAIN = "plain"  # t_s,input_tokens,output_tokens


class Arrival(msgspec.Struct, frozen=True, gc=False):
    """One request of a trace: seconds since the trace's own zero, tokens, and the line it stands on."""

    t_s: float
    input_tokens: int
    output_tokens: int
    line: int


class _MooncakeRow(msgspec.Struct):
    timestamp: float
    input_length: int
    output_length: int


_COLUMNS: dict[Format, tuple[str, str, str]] = {
    Format.AZURE: ("TIMESTAMP", "ContextTokens", "GeneratedTokens"),
    Format.BURSTGPT: ("Timestamp", "Request tokens", "Response tokens"),
    Format.PLAIN: ("t_s", "input_tokens", "output_tokens"),
}


def detect_format(path: Path) -> Format:
    """Return the format that the first line of the file is in.

    Raises InputError when it is none of the known ones.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            first = file.readline().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a text trace: {error}") from error
    if first.startswith("{"):
        return Format.MOONCAKE
    header = {cell.strip() for cell in first.split(",")}
    for form, columns in _COLUMNS.items():
        if header.issuperset(columns):
            return form
    known = "; ".join(f"{form}: {','.join(columns)}" for form, columns in _COLUMNS.items())
    raise InputError(
        f"{path}:1: no known trace format has the header {first[:120]!r}; expected one of: {known}; "
        f"or mooncake JSON lines. Rename the columns to the plain format's."
    )


def read_trace(path: Path, form: Format | None = None, max_gap_s: float = 600.0) -> Iterator[Arrival]:
    """Yield a trace's requests in order; requests without an answer (0 output tokens) are left out.

    `max_gap_s` is the longest silence, in seconds, that is believed. Raises InputError with file and line
    for a row that cannot be read, time that runs backwards, a longer silence, or a trace without requests.
    """
    chosen = form or detect_format(path)
    rows = _mooncake_rows(path) if chosen is Format.MOONCAKE else _csv_rows(path, chosen)
    return _checked(path, rows, max_gap_s)


def _checked(path: Path, rows: Iterable[Arrival], max_gap_s: float) -> Iterator[Arrival]:
    before: Arrival | None = None
    for row in rows:
        if row.input_tokens < 0 or row.output_tokens < 0:
            raise InputError(f"{path}:{row.line}: token counts cannot be negative; remove or mend the row")
        if before is not None and row.t_s < before.t_s:
            raise InputError(
                f"{path}:{row.line}: time runs backwards, {row.t_s:g} s after {before.t_s:g} s on line "
                f"{before.line}; sort the trace by time"
            )
        if before is not None and row.t_s - before.t_s > max_gap_s:
            raise InputError(
                f"{path}:{row.line}: a gap of {row.t_s - before.t_s:g} s without a request since line "
                f"{before.line} (more than max_gap_s = {max_gap_s:g}); cut the trace to the part without it, "
                f"or set max_gap_s above it if the silence was real"
            )
        before = row
        if row.output_tokens > 0:
            yield row
    if before is None:
        raise InputError(f"{path}: the trace has no requests; expected at least one row after the header")


def _csv_rows(path: Path, form: Format) -> Iterator[Arrival]:
    columns = _COLUMNS[form]
    seconds: Callable[[str], float] = _iso_seconds if form is Format.AZURE else float
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        header = [cell.strip() for cell in next(reader, [])]
        missing = [name for name in columns if name not in header]
        if missing:
            raise InputError(f"{path}:1: the {form} format needs the columns {missing}; found {header}")
        at_time, at_input, at_output = (header.index(name) for name in columns)
        for cells in reader:
            if not cells:
                continue
            try:
                yield Arrival(seconds(cells[at_time]), int(cells[at_input]), int(cells[at_output]), reader.line_num)
            except (ValueError, IndexError) as error:
                raise InputError(
                    f"{path}:{reader.line_num}: expected {','.join(columns)} as a time and two whole "
                    f"numbers, found {','.join(cells)[:120]!r}; mend or remove the row"
                ) from error


def _iso_seconds(text: str) -> float:
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _mooncake_rows(path: Path) -> Iterator[Arrival]:
    decoder = msgspec.json.Decoder(_MooncakeRow)
    with path.open("rb") as file:
        for line, text in enumerate(file, start=1):
            if not text.strip():
                continue
            try:
                row = decoder.decode(text)
            except msgspec.DecodeError as error:
                raise InputError(
                    f"{path}:{line}: expected a JSON object with timestamp (ms), input_length and "
                    f"output_length: {error}"
                ) from error
            yield Arrival(row.timestamp / 1000.0, row.input_length, row.output_length, line)
