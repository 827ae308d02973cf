"""`bench plan` on one small case, and the section it writes."""

import json
from pathlib import Path

import pytest

from secondsource.cli import bench_plan
from secondsource.cli.main import main


def test_a_section_is_written_in_the_place_of_its_last_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench_plan, "_SCALES", ((24, 2, 0.01),))
    page = tmp_path / "PAGE.md"
    page.write_text(
        "Before.\n\n<!-- bench plan: begin -->\nthe table of last time\n<!-- bench plan: end -->\n\nAfter.\n", "utf-8"
    )
    words = ["bench", "plan", "--cases", "1", "--seconds", "2", "--skip-futures", "--write", str(page), "--json"]
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["offers"] for row in told["scale"]] == [24]
    assert told["melange"][0]["usd_per_hour"] <= told["melange"][0]["melange_usd_per_hour"] * (1 + 1e-6)
    assert told["setting"]["command"].startswith("secondsource bench plan --cases 1 --seconds 2 --skip-futures --write")
    written = page.read_text("utf-8")
    assert written.startswith("Before.\n\n<!-- bench plan: begin -->\n## The planner\n")
    assert "of last time" not in written
    assert written.endswith("<!-- bench plan: end -->\n\nAfter.\n")
