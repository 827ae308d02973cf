"""An answer comes back from a copy of the process, whatever becomes of the copy."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("case", ["both_come_back", "a_copy_goes_on", "a_copy_crashes"])
def test_asked_in_a_copy(case: str) -> None:
    command = [sys.executable, "-W", "error", "-m", "tests.unit.port.apart_cases", case]
    asked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (asked.returncode, asked.stderr) == (0, "")
