"""The sources' processes, as far as they go without a model."""

import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from secondsource.embedded.child import Announcement, bound_log
from secondsource.embedded.ports import choose_free_ports

SERVERS = ("llamacpp_server", "engine_server")


def announce(tmp_path: Path, server: str, model: Path, port: int) -> Announcement:
    command = [sys.executable, "-m", f"secondsource.embedded.{server}", "--model", str(model)]
    command += ["--port", str(port), "--slots", "1", "--context-per-slot", "64", "--threads", "1"]
    command += ["--alias", "m", "--log", str(tmp_path / "source.log")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        line = process.stdout.readline()  # its standard input stays open meanwhile: it would end otherwise
        assert process.wait(60) == 1
    return msgspec.json.decode(line, type=Announcement)


@pytest.mark.parametrize("server", SERVERS)
def test_a_taken_port_is_announced_as_such(server: str, tmp_path: Path) -> None:
    (port,) = choose_free_ports(1)
    with socket.socket() as owner:
        owner.bind(("127.0.0.1", port))
        owner.listen()
        announcement = announce(tmp_path, server, tmp_path / "absent.gguf", port)
    assert announcement.port_taken
    assert str(port) in announcement.problem


def test_the_log_is_emptied_in_place_and_one_older_copy_kept(tmp_path: Path) -> None:
    log = tmp_path / "source.log"
    with log.open("ab") as writer:
        for letter in (b"a", b"b"):
            writer.write(letter * 2000)
            writer.flush()
            bound_log(log, longest=1000)
            assert log.stat().st_size == 0
            assert (tmp_path / "source.log.1").read_bytes() == letter * 2000
        writer.write(b"c" * 500)
        writer.flush()
        bound_log(log, longest=1000)
    assert log.read_bytes() == b"c" * 500
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source.log", "source.log.1"]


@pytest.mark.parametrize(("server", "name"), [("llamacpp_server", "llama.cpp"), ("engine_server", "the engine")])
def test_a_file_that_is_no_model_is_announced(server: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "not.gguf").write_text("hello")
    announcement = announce(tmp_path, server, tmp_path / "not.gguf", choose_free_ports(1)[0])
    assert announcement.problem.startswith(f"{name} did not start")
    assert not announcement.port_taken
    assert "not.gguf" in (tmp_path / "source.log").read_text()
