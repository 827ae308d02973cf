"""`secondsource up`: flags, their contradictions, and errors before anything is served."""

import importlib.util
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from secondsource.cli import up_embedded
from secondsource.cli.main import build_parser, main
from secondsource.cli.up import with_flags
from secondsource.core.errors import InputError
from secondsource.core.fleet import Fleet, Pool, Supplier
from secondsource.embedded.ports import choose_free_ports

FLEET_FILE = """
[suppliers.s]

[[pools]]
name = "p"
supplier = "s"
chip = "c"
model = "m"
replicas = ["http://127.0.0.1:{port}"]
"""
FLEET = Fleet(
    suppliers=(Supplier(name="s"),),
    pools=(Pool(name="p", supplier="s", chip="c", model="m", upstream_model="m", replicas=("http://a:1",)),),
)


def flags(*words: str) -> Fleet:
    return with_flags(FLEET, build_parser().parse_args(["up", *words]))


def test_flags_override_the_file_and_leave_the_rest() -> None:
    assert flags() == FLEET
    changed = flags("--host", "127.0.0.2", "--port", "9000", "--admin-port", "9001", "--state-dir", "/var/s")
    assert (changed.gateway.host, changed.gateway.port) == ("127.0.0.2", 9000)
    assert (changed.admin.host, changed.admin.port) == ("127.0.0.1", 9001)
    assert changed.state_dir == "/var/s"
    assert changed.pools == FLEET.pools


@pytest.mark.parametrize("words", [("--host", "0.0.0.0"), ("--port", "8081"), ("--admin-port", "8080")])
def test_flags_are_held_to_the_rules_of_a_file(words: tuple[str, ...]) -> None:
    with pytest.raises(InputError):
        flags(*words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--check"], "needs a fleet file"),
        (["--json"], "goes with --check"),
        (["fleet.toml", "--model", "m.gguf"], "one of the two"),
        (["--port", "65536"], "65535"),
        (["--admin-port", "-1"], "65535"),
        (["absent.toml"], "absent.toml"),
        (["--check", "absent.toml"], "absent.toml"),
        (["--host", "0.0.0.0"], "fleet file"),
    ],
)
def test_wrong_input_is_exit_2_and_says_why(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["up", *words]) == 2
    assert said in capsys.readouterr().err


@pytest.fixture
def free() -> list[str]:
    """Flags that take ports nobody has."""
    port, admin_port = choose_free_ports(2)
    return ["--port", str(port), "--admin-port", str(admin_port)]


def test_a_model_that_is_absent_or_not_gguf_is_exit_2(
    tmp_path: Path, free: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    state = ["--state-dir", str(tmp_path / "state")]
    assert main(["up", *free, *state, "--model", str(tmp_path / "absent.gguf")]) == 2
    assert "No such file" in capsys.readouterr().err
    (tmp_path / "text.gguf").write_text("hello")
    assert main(["up", *free, *state, "--model", str(tmp_path / "text.gguf")]) == 2
    assert "not a GGUF file" in capsys.readouterr().err


@pytest.fixture
def taken() -> Iterator[int]:
    (port,) = choose_free_ports(1)
    with socket.socket() as owner:
        owner.bind(("127.0.0.1", port))
        owner.listen()
        yield port


@pytest.mark.parametrize("flag", ["--port", "--admin-port"])
def test_a_taken_port_is_found_before_a_model_is_fetched(
    taken: int, flag: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(up_embedded, "default_model", None)  # to call it would be a TypeError
    assert main(["up", flag, str(taken)]) == 2
    said = capsys.readouterr().err
    assert f"port {taken} is taken" in said
    assert flag in said


def test_without_llamacpp_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert main(["up"]) == 2
    assert "secondsource[embedded]" in capsys.readouterr().err


def test_a_check_of_an_unreachable_replica_is_exit_1_in_both_forms(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (port,) = choose_free_ports(1)
    fleet = tmp_path / "fleet.toml"
    fleet.write_text(FLEET_FILE.format(port=port))
    assert main(["up", "--check", str(fleet)]) == 1
    assert "not reachable" in capsys.readouterr().out
    assert main(["up", "--check", "--json", str(fleet)]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is False
    assert document["replicas"][0]["reachable"] is False


def test_a_check_of_a_wrong_file_is_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fleet = tmp_path / "fleet.toml"
    fleet.write_text(FLEET_FILE.format(port=1) + "speling = 1\n")
    assert main(["up", "--check", str(fleet)]) == 2
    assert "speling" in capsys.readouterr().err
