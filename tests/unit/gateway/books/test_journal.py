"""The journal: a reservation is in the kernel before it returns, and a disk that refuses stops new work."""

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from secondsource.gateway.books.journal import Journal, JournalError, is_complete, list_files, remove_unborn
from tests.ledger_records import noted, reserved, settled


def lines_of(directory: Path) -> list[dict[str, object]]:
    text = b"".join(path.read_bytes() for path in sorted(directory.glob("*.jsonl")))
    assert text.endswith(b"\n") or not text
    return [json.loads(line) for line in text.splitlines()]


@contextmanager
def no_file_longer_than(size: int) -> Iterator[None]:
    """Make the kernel refuse to extend files past a size, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def test_an_append_can_be_read_at_once_by_others(tmp_path: Path) -> None:
    journal = Journal(tmp_path, worker=0, started_ns=1)
    journal.append(reserved("r1"))
    journal.append(settled("r1"))
    assert journal.waiting
    journal.flush()
    assert not journal.waiting
    assert [line["type"] for line in lines_of(tmp_path)] == ["reserved", "settled"]
    assert lines_of(tmp_path)[1]["cost_nano_usd"] == 1234
    journal.close()


def test_what_waits_is_written_with_the_next_reservation(tmp_path: Path) -> None:
    journal = Journal(tmp_path, worker=0, started_ns=1)
    journal.append(reserved("r1"))
    journal.append(settled("r1"))
    journal.append(noted("r2"))
    assert [line["type"] for line in lines_of(tmp_path)] == ["reserved"]
    journal.append(reserved("r3"))
    assert [line["type"] for line in lines_of(tmp_path)] == ["reserved", "noted", "settled", "reserved"]
    journal.close()


def test_files_are_private_to_the_user(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", worker=0, started_ns=1)
    [path] = (tmp_path / "journal").iterdir()
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0
    journal.close()


def test_rotation_keeps_every_record_in_order(tmp_path: Path) -> None:
    journal = Journal(tmp_path, worker=3, started_ns=7, rotate_at=1000)
    for number in range(20):
        journal.append(reserved(f"r{number:02d}"))
    journal.close()
    files = list_files(tmp_path)
    assert len(files) > 3
    assert [file.sequence for file in files] == list(range(1, len(files) + 1))
    assert {file.writer for file in files} == {journal.writer}
    assert [line["request_id"] for line in lines_of(tmp_path)] == [f"r{number:02d}" for number in range(20)]


def test_a_living_writers_file_is_not_complete(tmp_path: Path) -> None:
    journal = Journal(tmp_path, worker=0, started_ns=1)
    [path] = tmp_path.glob("*.jsonl")
    descriptor = os.open(path, os.O_RDONLY)
    assert not is_complete(descriptor)
    journal.close()
    assert is_complete(descriptor)
    os.close(descriptor)


def test_a_full_disk_refuses_reservations_and_keeps_settlements(tmp_path: Path) -> None:
    journal = Journal(tmp_path, worker=0, started_ns=1)
    journal.append(reserved("r1"))
    journal.append(reserved("r2"))
    size = sum(path.stat().st_size for path in tmp_path.glob("*.jsonl"))
    with no_file_longer_than(size + 10):  # room for a part of a line, as on a disk that is almost full
        with pytest.raises(JournalError, match="free the disk"):
            journal.append(reserved("r3"))
        assert not journal.refusing  # nothing is owed yet
        journal.append(settled("r1"))
        journal.append(noted("r2"))
        with pytest.raises(JournalError):
            journal.flush()
        assert journal.refusing
        with pytest.raises(JournalError):
            journal.append(reserved("r4"))
        journal.append(settled("r2"))
        with pytest.raises(JournalError):
            journal.flush()
    assert [line["attempt_id"] for line in lines_of(tmp_path)] == ["r1.1", "r2.1"]  # and no half line
    journal.append(reserved("r5"))
    assert not journal.refusing
    journal.close()
    written = [(line["type"], line["attempt_id"]) for line in lines_of(tmp_path)]
    assert written[2:] == [("settled", "r1.1"), ("settled", "r2.1"), ("reserved", "r5.1")]


def test_half_a_line_that_cannot_be_taken_back_is_left_behind_in_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path, worker=0, started_ns=1)
    journal.append(reserved("r1"))
    size = sum(path.stat().st_size for path in tmp_path.glob("*.jsonl"))

    def refuse(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with no_file_longer_than(size + 10), monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", refuse)
        with pytest.raises(JournalError):
            journal.append(reserved("r2"))
        assert journal.refusing
    journal.append(reserved("r3"))
    journal.close()
    first, second = sorted(tmp_path.glob("*.jsonl"))
    assert not first.read_bytes().endswith(b"\n")
    assert json.loads(second.read_bytes())["attempt_id"] == "r3.1"


def test_settlements_that_cannot_be_taken_back_are_not_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path, worker=0, started_ns=1)
    journal.append(reserved("r1"))
    journal.append(reserved("r2"))
    size = sum(path.stat().st_size for path in tmp_path.glob("*.jsonl"))
    journal.append(noted("r1"))
    journal.append(settled("r1"))
    journal.append(settled("r2"))
    ahead = len(msgspec.json.encode(noted("r1"))) + len(msgspec.json.encode(settled("r1"))) + 2

    def refuse(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with no_file_longer_than(size + ahead + 10), monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", refuse)
        with pytest.raises(JournalError):
            journal.flush()
        assert journal.refusing
    journal.flush()
    assert not journal.refusing
    journal.close()
    first, second = sorted(tmp_path.glob("*.jsonl"))
    whole = [json.loads(line) for path in (first, second) for line in path.read_bytes().split(b"\n")[:-1]]
    told = [(line["type"], line["attempt_id"]) for line in whole if line["type"] == "settled"]
    assert told == [("settled", "r1.1"), ("settled", "r2.1")]


def test_rotation_that_fails_goes_on_in_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path, worker=0, started_ns=1, rotate_at=100)
    real_open = os.open

    def refuse(path: str | Path, *rest: int) -> int:
        if str(path).endswith(".new"):
            raise OSError(24, "Too many open files")
        return real_open(path, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        journal.append(reserved("r1"))
        journal.append(reserved("r2"))
    assert len(list_files(tmp_path)) == 1
    journal.append(reserved("r3"))
    assert len(list_files(tmp_path)) == 2
    journal.close()
    assert [line["request_id"] for line in lines_of(tmp_path)] == ["r1", "r2", "r3"]


def test_a_directory_that_cannot_be_written_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="cannot write the journal in"):
        Journal(tmp_path / "file" / "journal", worker=0, started_ns=1)


def test_foreign_files_are_not_taken_for_journals(tmp_path: Path) -> None:
    for name in ("README", "x.jsonl", "w0-1.x.jsonl", ".jsonl", "w0-1.00000001.jsonl.new"):
        (tmp_path / name).write_text("")
    assert list_files(tmp_path) == []
    assert list_files(tmp_path / "missing") == []
    remove_unborn(tmp_path)
    assert not (tmp_path / "w0-1.00000001.jsonl.new").exists()


WRITER = """
import sys
from pathlib import Path
from secondsource.gateway.books.journal import Journal
from tests.ledger_records import reserved
journal = Journal(Path(sys.argv[1]), worker=0, started_ns=1)
journal.append(reserved("r1"))
print("written", flush=True)
sys.stdin.read()
"""


def test_a_killed_writers_file_is_complete(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        [path] = tmp_path.glob("*.jsonl")
        descriptor = os.open(path, os.O_RDONLY)
        assert not is_complete(descriptor)
        process.kill()
        process.wait()
        assert is_complete(descriptor)
        os.close(descriptor)
    assert [line["request_id"] for line in lines_of(tmp_path)] == ["r1"]
