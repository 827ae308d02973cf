"""What this machine can spare, containers' limits included."""

import os
from pathlib import Path

from secondsource.embedded.machine import available_memory, usable_cores


def test_memory_is_what_the_system_has_free(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:       2000 kB\nMemFree:         100 kB\nMemAvailable:    1000 kB\n")
    assert available_memory(meminfo, tmp_path) == 1000 * 1024


def test_a_containers_limit_counts_when_it_is_lower(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemAvailable:    1000 kB\n")
    (tmp_path / "memory.max").write_text("600000\n")
    (tmp_path / "memory.current").write_text("100000\n")
    assert available_memory(meminfo, tmp_path) == 500_000
    (tmp_path / "memory.max").write_text("max\n")
    assert available_memory(meminfo, tmp_path) == 1000 * 1024


def test_a_system_that_does_not_say_is_none(tmp_path: Path) -> None:
    assert available_memory(tmp_path / "absent", tmp_path) is None


def test_a_cpu_quota_counts_when_it_is_lower(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("max 100000\n")
    cores = usable_cores(tmp_path)
    assert 1 <= cores <= (os.cpu_count() or 1)
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    assert usable_cores(tmp_path) == 1
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert usable_cores(tmp_path) == 1
    (tmp_path / "cpu.max").write_text("99900000 100000\n")
    assert usable_cores(tmp_path) == cores
