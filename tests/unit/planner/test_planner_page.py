"""The planner's page: its SPEC plans, its case of Mélange's plans, and it names every key that is read."""

import json
import re
from pathlib import Path

import pytest

from secondsource.cli.main import main
from secondsource.planner import report

PAGE = (Path(__file__).parents[3] / "docs" / "planner.md").read_text()


def block(language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def test_the_pages_spec_plans(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "SPEC.toml"
    path.write_text(block("toml"))
    assert main(["plan", str(path), "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert set(plan) == set(report.Report.__struct_fields__)
    assert max(plan["usd_by_month"]) <= 2_000_000


def test_the_pages_case_plans(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "case.json"
    path.write_text(block("json"))
    assert main(["plan", "--from-melange", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["gap"] <= 0.001


def test_the_page_names_every_key_of_the_json() -> None:
    for name in report.Report.__struct_fields__:
        assert f"`{name}`" in PAGE, name


def test_the_page_names_every_key_of_the_spec() -> None:
    source = Path(report.__file__).parent
    text = (source / "spec_file.py").read_text() + (source / "spec_supply.py").read_text()
    for key in set(re.findall(r'\.(?:required|optional|table|tables|named_tables)\(\s*"(\w+)"', text)):
        assert re.search(rf"\b{key}\b", PAGE), key
