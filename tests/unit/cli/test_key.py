"""`secondsource key new`, as a user runs it."""

import hashlib
import json
from pathlib import Path

import pytest

from secondsource.cli.main import main
from secondsource.core.fleet_file import parse_fleet

SERVED = """
[suppliers.s]
[[pools]]
name = "p"
supplier = "s"
chip = "c"
model = "m"
replicas = ["http://10.0.0.1:8000"]
[[lanes]]
name = "paid"
"""


def test_the_token_is_shown_once_with_a_table_that_the_fleet_file_takes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key", "new", "--tenant", "acme", "--lane", "paid"]) == 0
    shown = capsys.readouterr().out
    assert "shown this once" in shown
    [token] = [line for line in shown.splitlines() if line.startswith("sk-ss-")]
    assert shown.count(token) == 1
    assert len(token) == len("sk-ss-") + 43  # 32 bytes in base64 without padding
    [key] = parse_fleet(SERVED + shown[shown.index("[[keys]]") :], "pasted").keys
    assert key.sha256 == hashlib.sha256(token.encode()).hexdigest()
    assert (key.tenant, key.lane) == ("acme", "paid")


def test_json_has_the_same_and_nothing_around_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key", "new", "--tenant", "acme", "--lane", "paid", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert set(shown) == {"token", "sha256", "tenant", "lane", "table"}
    assert shown["sha256"] == hashlib.sha256(shown["token"].encode()).hexdigest()
    [key] = parse_fleet(SERVED + shown["table"], "pasted").keys
    assert (key.sha256, key.tenant, key.lane) == (shown["sha256"], "acme", "paid")


def test_no_two_keys_are_alike(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        main(["key", "new", "--tenant", "acme", "--lane", "paid", "--json"])
    first, second = capsys.readouterr().out.splitlines()
    assert json.loads(first)["token"] != json.loads(second)["token"]


@pytest.mark.parametrize(
    ("tenant", "lane", "said"), [("ac me", "paid", "--tenant: expected"), ("acme", 'a"\nb', "--lane: expected")]
)
def test_a_name_that_no_fleet_file_takes_is_refused(
    capsys: pytest.CaptureFixture[str], tenant: str, lane: str, said: str
) -> None:
    assert main(["key", "new", "--tenant", tenant, "--lane", lane]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""


def test_the_lane_is_looked_up_even_while_the_file_waits_for_its_first_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text('[gateway]\nhost = "0.0.0.0"\n' + SERVED)
    arguments = ["key", "new", "--tenant", "acme", "--fleet", str(path), "--lane"]
    assert main([*arguments, "paid"]) == 0
    assert main([*arguments, "pad"]) == 2
    assert 'no lane "pad"; did you mean "paid"?' in capsys.readouterr().err


def test_a_file_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "none.toml")
    assert main(["key", "new", "--tenant", "acme", "--lane", "paid", "--fleet", path]) == 2
    assert path in capsys.readouterr().err
