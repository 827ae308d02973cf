"""What the README shows can be typed: its commands are the command line's, its fleet file is read."""

import re
import shlex
from pathlib import Path

import pytest

from secondsource.cli.main import build_parser
from secondsource.core.fleet_file import parse_fleet

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()
SHOWN = re.findall(r"^\.venv/bin/secondsource (.*?)(?:\s+#.*)?$", README, re.MULTILINE)


def fenced(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("command", SHOWN)
def test_command_is_one_of_ours(command: str) -> None:
    assert callable(build_parser().parse_args(shlex.split(command)).run)


def test_commands_are_shown() -> None:
    assert len(SHOWN) >= 5


def test_fleet_file_is_read() -> None:
    (text,) = fenced("toml")
    fleet = parse_fleet(text, "README.md")
    assert fleet.models == ("chat",)
    assert {pool.supplier for pool in fleet.pools} == {"azure", "gcp"}


def test_every_linked_document_exists() -> None:
    root = Path(__file__).resolve().parents[2]
    linked = [target for target in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in target]
    assert linked
    assert [target for target in linked if not (root / target).exists()] == []
