"""How far a fetch is, seen from outside while pip works."""

import os
from pathlib import Path
from typing import Any

import pytest

from secondsource.embedded.pip_download import _largest_file


def test_directories_that_pip_removes_while_we_look_are_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "build" / "gone").mkdir(parents=True)
    (tmp_path / "build" / "wheel").write_bytes(b"four")
    scandir = os.scandir

    def removing(path: Any) -> Any:
        if str(path).endswith("gone"):
            os.rmdir(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", removing)
    assert _largest_file(tmp_path) == 4
    assert not (tmp_path / "build" / "gone").exists()
