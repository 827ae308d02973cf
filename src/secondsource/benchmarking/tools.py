"""The programs that a measurement needs: found with clear words, or made from the sources shipped beside this file."""

import hashlib
import shutil
import subprocess
from pathlib import Path

import platformdirs

from secondsource.core.errors import InputError

_SOURCES = Path(__file__).parent / "sources"
_PACKAGES = {"wrk": "wrk", "taskset": "util-linux", "cc": "gcc", "nginx": "nginx-light"}


def cache_directory() -> Path:
    """Return where the peers' environments and our compiled programs are kept; it may be deleted at any time."""
    return Path(platformdirs.user_cache_dir("secondsource")) / "bench"


def find_tool(name: str) -> str:
    """Return the path of a program; InputError says which Debian package has it."""
    found = shutil.which(name, path=None) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise InputError(f"this needs the program {name}, which is not installed: apt-get install {_PACKAGES[name]}")
    return found


def compiled(name: str) -> Path:
    """Return our program `name`, compiled from its C source where that is still to do; InputError if it fails."""
    source = _SOURCES / f"{name}.c"
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:12]
    program = cache_directory() / f"{name}-{digest}"
    if program.exists():
        return program
    program.parent.mkdir(parents=True, exist_ok=True)
    unfinished = program.with_suffix(".new")
    made = subprocess.run(
        [find_tool("cc"), "-O2", "-o", str(unfinished), str(source)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        raise InputError(f"{source}: the C compiler refuses it: {made.stderr.strip()[:500]}")
    unfinished.replace(program)
    return program
