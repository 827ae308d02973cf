import importlib.util
import json
from pathlib import Path

import pytest

from secondsource.cli import port_run
from secondsource.cli.main import main
from secondsource.port.estimate import estimate as real_estimate
from secondsource.profiles.compiled import read_compiled
from tests.unit.port.fakes import FakeCompiler


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> FakeCompiler:
    """A compiler for every chip."""
    fake = FakeCompiler()
    monkeypatch.setattr(port_run, "_require_compiler_of", lambda _chip: None)
    monkeypatch.setattr(port_run, "estimate", lambda *arguments: real_estimate(*arguments, fake))
    return fake


def test_one_chip_as_json(compiler: FakeCompiler, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(
        ["port", "llama-3.1-70b", "--chip", "tpu-v6e", "--weights", "int8", "--profiles", str(tmp_path), "--json"]
    )
    found = json.loads(capsys.readouterr().out)
    assert status == 0
    assert (found["compiles"], found["fits"], found["chips_needed"]) == (True, True, 4)
    (stored,) = read_compiled(tmp_path)
    assert (stored.model, stored.chip, stored.precision) == ("llama-3.1-70b", "tpu-v6e", "int8")
    assert stored.decode_step_s == pytest.approx(found["decode_step_s"])


def test_one_chip_for_people(compiler: FakeCompiler, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["port", "gemma-3-27b", "--chip", "tpu7x", "--profiles", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    for word in ("compiles and fits", "fewest chips", "memory a chip", "decode step", "engines add 4 to 6 ms", "price"):
        assert word in shown


def test_what_does_not_fit_exits_1(compiler: FakeCompiler, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["port", "llama-3.1-405b", "--chip", "tpu-v5e", "--chips", "8", "--profiles", str(tmp_path)]) == 1
    assert "compiles, does not fit" in capsys.readouterr().out
    assert read_compiled(tmp_path) == ()


def test_chips_side_by_side(compiler: FakeCompiler, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "chips.svg"
    chips = "h100-sxm,tpu-v6e,tpu-v5e"
    arguments = ["port", "qwen3-8b", "--compare", chips, "--profiles", str(tmp_path), "--picture", str(picture)]
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    for chip in chips.split(","):
        assert chip in shown
    assert picture.read_text("utf-8").lstrip().startswith("<svg")
    assert main([*arguments[:-2], "--json"]) == 0
    assert [each["chip"] for each in json.loads(capsys.readouterr().out)] == chips.split(",")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["lama-3.1-70b", "--chip", "tpu-v6e"], "lama-3.1-70b: no model of that name"),
        (["lama-3.1-70b", "--chip", "tpu-v6e"], 'did you mean "llama-3.1-70b"?'),
        (["./nothing-here", "--chip", "tpu-v6e"], "./nothing-here: there is no such file or directory"),
        (["llama-3.1-8b", "--chip", "tpu-v6e", "--picture", "/nothing/here.svg"], "there is no directory /nothing"),
        (["llama-3.1-8b", "--chip", "tpu-v6e", "--save-executable", "/dev/null"], "a directory that can be written"),
        (["llama-3.1-8b", "--chip", "tpu-v6e", "--seconds", "0"], "--seconds 0"),
        (["llama-3.1-8b", "--chip", "mi300x"], "no compiler for"),
        (["llama-3.1-8b", "--chip", "tpu-v6e", "--chips", "5"], "power of two"),
        (["llama-3.1-8b", "--chip", "tpu-v6e", "--prompt", "0"], "--prompt 0"),
    ],
)
def test_wrong_input_exits_2(
    compiler: FakeCompiler, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["port", *arguments]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is not None, reason="the compiler is installed")
def test_a_missing_compiler_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["port", "llama-3.1-8b", "--chip", "tpu-v6e"]) == 2
    assert "secondsource[port]" in capsys.readouterr().err
