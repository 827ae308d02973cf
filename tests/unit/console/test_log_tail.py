"""Following the request log: nothing is read twice or lost when files are moved away, and half a line waits."""

from pathlib import Path

from secondsource.console import log_tail
from secondsource.console.log_tail import LogTail
from secondsource.gateway.request_log import RequestLog
from tests.unit.console.lines import line


def test_only_what_is_new_is_read_and_half_a_line_waits(tmp_path: Path) -> None:
    path, tail = tmp_path / "requests.jsonl", LogTail(tmp_path)
    assert tail.read() == []
    path.write_bytes(b"one\ntw")
    assert tail.read() == [b"one"]
    with path.open("ab") as file:
        file.write(b"o\nthree\n")
    assert tail.read() == [b"two", b"three"]
    assert tail.read() == []
    tail.close()


def test_a_log_that_is_moved_away_is_read_to_its_end_and_the_new_one_from_its_beginning(tmp_path: Path) -> None:
    log, tail = RequestLog(tmp_path, rotate_at=1, kept=2), LogTail(tmp_path)
    seen: list[bytes] = []
    for number in range(6):
        log.write([line(request_id=f"req_{number}")])  # each write begins a file of its own
        seen += tail.read()
    assert [one.count(b"req_%d" % number) for number, one in enumerate(seen)] == [1] * 6
    log.close()
    tail.close()


def test_each_workers_log_is_read_and_no_older_file(tmp_path: Path) -> None:
    for name in ("requests.jsonl", "requests.w1.jsonl", "requests.w12.jsonl", "requests.1.jsonl", "other.jsonl"):
        (tmp_path / name).write_text(f"{name}\n")
    tail = LogTail(tmp_path)
    assert sorted(tail.read()) == [b"requests.jsonl", b"requests.w1.jsonl", b"requests.w12.jsonl"]
    tail.close()


def test_of_a_large_file_only_the_end_is_read_and_whole_lines_of_it(tmp_path: Path) -> None:
    lines = [b"%09d" % number for number in range(log_tail.FIRST_BYTES // 10 + 1000)]
    (tmp_path / "requests.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    tail = LogTail(tmp_path)
    read = tail.read()
    assert read == lines[-len(read) :]
    assert log_tail.FIRST_BYTES // 10 - 1 <= len(read) <= log_tail.FIRST_BYTES // 10
    tail.close()
