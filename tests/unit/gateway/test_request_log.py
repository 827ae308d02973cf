"""The request log: one line each, bounded, and nobody waits for it."""

import errno
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from secondsource.gateway.request_log import LONGEST_TEXT, RequestLine, RequestLog, short_line, tried
from tests.ledger_records import reserved, settled


def line(request_id: str = "req_1") -> RequestLine:
    return RequestLine(at=datetime(2026, 1, 2, tzinfo=UTC), request_id=request_id, status=200)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in path.read_text().splitlines()]


def test_a_request_is_one_line_of_json(tmp_path: Path) -> None:
    log = RequestLog(tmp_path / "not" / "there")
    log.write([line()])
    log.write([short_line("req_2", 404, "unknown_url\nsecond line", "GET", "/x")])
    first, second = lines(log.path)
    assert (first["at"], first["request_id"], first["attempts"]) == ("2026-01-02T00:00:00Z", "req_1", [])
    assert (second["status"], second["refusal"], second["endpoint"]) == (404, "unknown_url\nsecond line", "/x")
    assert log.path.stat().st_mode & 0o077 == 0


def test_an_attempt_tells_where_and_how_it_ended() -> None:
    told = tried(reserved("r"), settled("r"))
    assert (told.pool, told.outcome, told.duration_s) == (reserved("r").pool, settled("r").outcome, 2.0)


def test_what_a_client_makes_up_is_cut_short(tmp_path: Path) -> None:
    log = RequestLog(tmp_path)
    log.write([short_line("req_1", 404, "r" * 10_000, "G" * 10_000, "/" * 10_000)])
    assert log.path.stat().st_size < 8 * LONGEST_TEXT


def test_files_are_rotated_and_the_oldest_goes(tmp_path: Path) -> None:
    log = RequestLog(tmp_path, rotate_at=300, kept=2)
    for number in range(12):
        log.write([line(f"req_{number}")])
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["requests.1.jsonl", "requests.2.jsonl", "requests.jsonl"]
    kept = [one["request_id"] for name in ("2.", "1.", "") for one in lines(tmp_path / f"requests.{name}jsonl")]
    assert kept == [f"req_{number}" for number in range(12 - len(kept), 12)]
    assert all((tmp_path / name).stat().st_size < 300 + 400 for name in names)


def test_a_new_process_goes_on_with_the_newest_file(tmp_path: Path) -> None:
    for number in range(2):
        log = RequestLog(tmp_path)
        log.write([line(f"req_{number}")])
        log.close()
    assert [one["request_id"] for one in lines(log.path)] == ["req_0", "req_1"]


def test_a_full_disk_drops_whole_lines_and_counts_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = RequestLog(tmp_path)
    log.write([line("req_0")])
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:10]))
    log.write([line("req_1")])

    def refuse(_file: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "write", refuse)
    log.write([line("req_2")])
    monkeypatch.setattr(os, "write", write)
    log.write([line("req_3")])
    assert log.dropped == 2
    assert [one["request_id"] for one in lines(log.path)] == ["req_0", "req_3"]


def test_a_pipe_that_nobody_reads_holds_nothing_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "requests.jsonl")
    log = RequestLog(tmp_path)
    log.write([line()])
    assert log.dropped == 1


def test_a_directory_that_cannot_be_made_holds_nothing_up(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    log = RequestLog(tmp_path / "file")
    log.write([line()])
    assert log.dropped == 1
