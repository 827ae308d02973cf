import json
from pathlib import Path

import msgspec
import pytest

from secondsource.benchmarking.records import ROWS
from secondsource.cli.bench_gateway import choose, read_kept
from secondsource.cli.main import main
from secondsource.core.errors import InputError
from tests.unit.benchmarking.slices import one_slice


def test_only_names_gateways_and_rows_and_narrows_what_it_names() -> None:
    peers, rows = choose(["vllm-router", "secondsource"])
    assert [peer.name for peer in peers] == ["vllm-router", "secondsource"]
    assert rows == ROWS
    peers, rows = choose(["paced"])
    assert len(peers) == 5
    assert [row.name for row in rows] == ["paced"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--only", "vllm"], "--only vllm: expected a gateway or a row, one of nginx, vllm-router"),
        (["--rounds", "0"], "--rounds 0: at least 1"),
        (["--minutes", "0"], "--minutes 0: more than 0"),
        (["--minutes", "1", "--only", "nginx"], "--only does not go with --minutes"),
        (["--keep", "/dev/null/nothing", "--minutes", "1"], "--keep does not go with --minutes"),
    ],
)
def test_wrong_words_are_told_before_anything_starts(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "gateway", *words]) == 2
    assert told in capsys.readouterr().err


def test_a_missing_tool_is_told_with_its_package(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("secondsource.benchmarking.tools.shutil.which", lambda name, path=None: None)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    assert main(["bench", "gateway"]) == 2
    assert "needs the program wrk, which is not installed: apt-get install wrk" in capsys.readouterr().err


def test_one_core_is_too_few(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})
    assert main(["bench", "gateway"]) == 2
    assert "cores 0 and 1" in capsys.readouterr().err


def test_what_was_kept_is_read_back_and_nonsense_is_told(tmp_path: Path) -> None:
    path = tmp_path / "kept.jsonl"
    assert read_kept(None) == read_kept(path) == []
    slices = [one_slice(round=1), one_slice(round=2, example="500 x")]
    path.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in slices))
    assert read_kept(path) == slices
    path.write_text(json.dumps({"gateway": "x"}))
    with pytest.raises(InputError, match="expected what an earlier run kept"):
        read_kept(path)
