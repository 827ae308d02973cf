import sys
import time
from pathlib import Path

from secondsource.benchmarking.processes import Program
from secondsource.core.errors import SecondsourceError

BUSY_CHILD = """
import subprocess, sys
subprocess.run([sys.executable, "-c", "held = bytearray(60_000_000)\\nwhile True: pass"])
"""


def program(code: str, tmp_path: Path) -> Program:
    return Program("it", [sys.executable, "-c", code], tmp_path / "log", {})


def told(ending: Program) -> str:
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        try:
            ending.require_alive()
        except SecondsourceError as error:
            return str(error)
        time.sleep(0.02)
    return "it did not end"


def test_children_count_and_end_with_their_parent(tmp_path: Path) -> None:
    with program(BUSY_CHILD, tmp_path) as busy:
        ends = time.monotonic() + 60
        while (busy.cpu_s() < 0.2 or busy.rss_bytes() < 60e6) and time.monotonic() < ends:
            time.sleep(0.02)
        assert busy.cpu_s() >= 0.2
        assert busy.rss_bytes() >= 60e6
    assert busy.rss_bytes() == 0


def test_a_program_that_ended_is_told_with_its_last_words(tmp_path: Path) -> None:
    with program("import sys; sys.exit('no such thing')", tmp_path) as ended:
        assert told(ended) == "it ended with status 1: no such thing"


def test_waiting_for_idleness_is_bounded(tmp_path: Path) -> None:
    with program("import time; time.sleep(60)", tmp_path) as idle:
        began = time.monotonic()
        idle.settle(30)
        assert time.monotonic() - began < 30
