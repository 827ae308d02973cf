"""Compiles the gateway's pump, a little C, where there is a compiler; without one the gateway does without it."""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PUMP = Path("src/secondsource/gateway/pump")
FLAGS = ("-O2", "-shared", "-fPIC", "-pthread", "-fstack-protector-strong", "-D_FORTIFY_SOURCE=2")


class CompilePump(BuildHookInterface):
    """Puts `libpump.so` beside `pump.c`, and into a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and say so where that is not possible."""
        root = Path(self.root)
        compiled = root / PUMP / "libpump.so"
        compiled.unlink(missing_ok=True)
        if self.target_name != "wheel" or not sys.platform.startswith("linux"):
            return
        fault = _compile(root / PUMP / "pump.c", compiled)
        if fault:
            self.app.display_warning(f"the gateway will do without its pump: {fault}")
            return
        build_data["artifacts"].append(str(PUMP / "libpump.so"))
        build_data["pure_python"] = False
        build_data["tag"] = "py3-none-" + sysconfig.get_platform().replace("-", "_").replace(".", "_")


def _compile(source: Path, compiled: Path) -> str:
    """Compile one file; returns what went wrong, or nothing."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return "there is no C compiler"
    command = [*shlex.split(compiler), *FLAGS, "-o", str(compiled), str(source)]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return f"{compiler}: {error.strerror}"
    return f"it did not compile:\n{said.stderr}" if said.returncode else ""
