from pathlib import Path
from typing import Any

import pytest

from secondsource.port.assigning import assign, assigned_bytes

# As libtpu 0.0.42.1 writes it, shortened: what the core's own memories hold has a color.
TEXT = """BufferAssignment:
allocation 172: size 4096, parameter 3, shape |bf16[2048]| at ShapeIndex {}:
allocation 173: size 1024, color 6, preallocated-temp:
 value: <13 copy @0> (size=1024,offset=0): s32[1]{0}
allocation 175: size 6013440, preallocated-temp:
 value: <14 fusion @0> (size=512,offset=0): f32[128]{0}
allocation 176: size 117440512, color 1, preallocated-temp:
"""


class Lowered:
    """A program whose compiler writes, and then fails or goes on."""

    def __init__(self, directory: Path, error: Exception | None = None) -> None:
        self._directory = directory
        self._error = error
        self.options: dict[str, Any] = {}

    def compile(self, compiler_options: dict[str, Any]) -> None:
        self.options = compiler_options
        if self._error is not None:
            raise self._error
        (self._directory / "m.after_optimizations-buffer-assignment.txt").write_text(TEXT, "utf-8")
        (self._directory / "m.after_optimizations-buffer-assignment-values.txt").write_text("HloModule m", "utf-8")


def test_temporaries_are_those_of_hbm(tmp_path: Path) -> None:
    lowered = Lowered(tmp_path)
    assert assign(lowered, tmp_path) == 6013440
    assert lowered.options["xla_dump_to"] == str(tmp_path)


def test_what_is_not_written_whole_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "m.after_optimizations-buffer-assignment.txt").write_text(TEXT[:200], "utf-8")
    assert assigned_bytes(tmp_path) is None


def test_what_the_compiler_raises_is_raised(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="too large"):
        assign(Lowered(tmp_path, ValueError("too large")), tmp_path)
