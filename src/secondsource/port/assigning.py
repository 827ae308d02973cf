"""What a program's temporaries take in HBM, from the compiler's own assignment of buffers.

The compiler of TPUs assigns memory in its first seconds and spends the next ten to forty on machine code. Where a
program is wanted for its memory alone, its code is not waited for: XLA writes the assignment to a directory before it
begins on code, and the process that asked ends with its work half done.
"""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

_ASSIGNMENT, _WRITTEN_AFTER = "*buffer-assignment.txt", "*buffer-assignment-values.txt"
_TEMPORARIES = re.compile(r"^allocation \d+: size (\d+), preallocated-temp:", re.MULTILINE)  # no color: HBM
_LOOK_AGAIN_S = 0.02


def telling(directory: Path) -> dict[str, Any]:
    """Return the compiler options that make XLA write its assignment of buffers to a directory."""
    return {"xla_dump_to": str(directory), "xla_dump_hlo_as_text": True}


def assigned_bytes(directory: Path) -> int | None:
    """Return the bytes of HBM that temporaries take by the assignment written there; None where there is none yet."""
    # The values' file is begun when the assignment's is closed. The module's text comes later: where a chip has sparse
    # cores, their programs are compiled in between, which took 100 s of 62 layers on a tpu7x.
    if not any(directory.glob(_WRITTEN_AFTER)):
        return None
    texts = [path.read_text("utf-8") for path in directory.glob(_ASSIGNMENT)]
    return sum(int(size) for text in texts for size in _TEMPORARIES.findall(text)) if texts else None


def assign(lowered: Any, directory: Path) -> int:
    """Return the bytes of HBM that a lowered program's temporaries take; raises what the compiler raises before.

    The compiler goes on in a thread of its own until the process ends.
    """
    going_on = ThreadPoolExecutor(1).submit(lowered.compile, compiler_options=telling(directory))
    while True:
        ended = going_on.done()
        found = assigned_bytes(directory)
        if found is not None:
            return found
        if ended:
            going_on.result()
            raise RuntimeError("the compiler wrote no assignment of buffers")
        time.sleep(_LOOK_AGAIN_S)
