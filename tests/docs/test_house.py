"""The house's rules hold: style, types, imports, the lock files, and the commands that the README gives."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


@pytest.mark.parametrize(
    "command",
    [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"], ["lint-imports", "--no-cache"]],
    ids=lambda command: "-".join(command[:2]),
)
def test_house_rule(command: list[str]) -> None:
    ran = subprocess.run(
        [str(BIN / command[0]), *command[1:]], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def start_commands() -> list[str]:
    """Return the fenced commands of the README's section `## Start`."""
    readme = (ROOT / "README.md").read_text()
    section = re.search(r"^## Start$(.*?)(?=^## |\Z)", readme, re.MULTILINE | re.DOTALL)
    assert section is not None, "README.md has no section '## Start'"
    return re.findall(r"^```[a-z]*\n(.*?)^```", section[1], re.MULTILINE | re.DOTALL)


def test_readme_starts_with_two_one_line_commands() -> None:
    commands = start_commands()
    assert len(commands) == 2
    assert all(command.count("\n") == 1 for command in commands)
    serve, test = commands
    assert "requirements/serve.lock" in serve
    assert "secondsource up" in serve
    assert "requirements/test.lock" in test
    assert test.rstrip().endswith("-m pytest")
    assert all("--require-hashes" in command for command in commands)


def test_ci_runs_the_readmes_test_command() -> None:
    ran = subprocess.run([str(ROOT / ".ci" / "run"), "--print"], capture_output=True, text=True, check=True, timeout=30)
    assert ran.stdout == start_commands()[1]


@pytest.mark.parametrize("lock", ["serve", "test"])
def test_lock_holds_every_dependency_by_hash(lock: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = ["embedded", "plan"] if lock == "serve" else ["embedded", "plan", "test"]
    wanted = [*project["dependencies"], *(name for extra in extras for name in project["optional-dependencies"][extra])]
    text = (ROOT / "requirements" / f"{lock}.lock").read_text()
    pinned = set(re.findall(r"^([a-z0-9][a-z0-9_.-]*)==", text, re.MULTILINE))
    names = {re.split(r"[\[<>=!~; ]", requirement)[0].lower().replace("_", "-") for requirement in wanted}
    assert names <= pinned, f"missing from requirements/{lock}.lock (make lock): {names - pinned}"
    entries = re.split(r"^(?=[a-z0-9][a-z0-9_.-]*==)", text, flags=re.MULTILINE)[1:]
    assert all("--hash=sha256:" in entry for entry in entries)
