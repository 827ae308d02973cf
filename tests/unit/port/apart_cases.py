"""What `test_apart` asks, in a process that has no compiler's threads, as the port's own has none when it asks."""

import os
import signal
import sys
import threading
import time

from secondsource.port.apart import ask_apart
from secondsource.port.job import Assigned, Depth, Fault, Program

PROGRAM = Program(step="prefill", sequences=8, context_tokens=256, chunk_tokens=64, prompt_tokens=64)
ANSWER = Assigned(program=PROGRAM, depth=Depth(32), temporaries_bytes=7)


def both_come_back() -> None:
    """Ask for an answer, and for a fault."""
    assert ask_apart(lambda: ANSWER) == ANSWER
    fault = Fault(kind="memory", program=PROGRAM, message="too large")
    assert ask_apart(lambda: fault) == fault


def a_copy_goes_on() -> None:
    """Ask somebody who goes on after the answer."""
    read, write = os.pipe()

    def go_on() -> Assigned:
        os.write(write, str(os.getpid()).encode())
        threading.Thread(target=time.sleep, args=(600,)).start()  # as the compiler does: the copy would wait for it
        return ANSWER

    assert ask_apart(go_on) == ANSWER
    os.close(write)
    try:
        os.kill(int(os.read(read, 20)), 0)
    except ProcessLookupError:
        return
    raise AssertionError("the copy still is there")


def a_copy_crashes() -> None:
    """Ask somebody who is killed."""

    def crash() -> Assigned:
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(600)
        return ANSWER

    found = ask_apart(crash)
    assert isinstance(found, Fault)
    assert found.kind == "crashed"
    assert "-9" in found.message


if __name__ == "__main__":
    {case.__name__: case for case in (both_come_back, a_copy_goes_on, a_copy_crashes)}[sys.argv[1]]()
