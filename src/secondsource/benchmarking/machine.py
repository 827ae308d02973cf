"""The machine that numbers are from, in words."""

import os
import platform
from pathlib import Path

_STEAL = 7


def describe_machine() -> str:
    """Return processor, cores, memory, kernel and Python in one line."""
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return (
        f"{processor(_read(Path('/proc/cpuinfo')))}, {os.cpu_count()} cores, {memory_gb:.0f} GB, "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    )


def processor(cpuinfo: str) -> str:
    """Return the first processor's name in the text of /proc/cpuinfo."""
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def stolen_s(core: int, stat: str | None = None) -> float:
    """Return the seconds that the host of this virtual machine has given to others of what a core was to have.

    Of the text of /proc/stat (proc_stat(5): the eighth number is `steal`, in ticks); 0 where nothing is told.
    """
    for line in (_read(Path("/proc/stat")) if stat is None else stat).splitlines():
        name, *ticks = line.split()
        if name == f"cpu{core}" and len(ticks) > _STEAL:
            return int(ticks[_STEAL]) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""
