"""Installs a pinned set of npm packages for a test, or skips it where that cannot be done."""

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

INSTALL_LIMIT_S = 240


def install_packages(sources: Path, config: pytest.Config) -> Path:
    """Return a folder with a copy of `sources` and the packages that its lock file pins.

    The folder is kept in pytest's cache and used again until a source file changes.
    """
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed (Debian: apt-get install nodejs npm)")
    files = sorted(path for path in sources.iterdir() if path.is_file())
    state = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]
    target = config.cache.mkdir("npm") / f"{sources.name}-{state}"
    if (target / "installed").exists():
        return target
    target.mkdir(exist_ok=True)
    for path in files:
        shutil.copy(path, target)
    command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    try:
        ran = subprocess.run(command, cwd=target, capture_output=True, text=True, timeout=INSTALL_LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm did not install {sources.name}'s packages within {INSTALL_LIMIT_S} s")
    if ran.returncode != 0:
        no_registry = ("ENOTFOUND", "ECONNREFUSED", "EAI_AGAIN", "ETIMEDOUT", "ECONNRESET")
        if any(sign in ran.stderr for sign in no_registry):
            pytest.skip(f"npm cannot reach its registry: {ran.stderr[-300:]}")
        pytest.fail(f"npm ci failed in {target}:\n{ran.stderr}")
    (target / "installed").touch()
    return target
