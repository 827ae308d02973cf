import os
import signal
import threading
import time

import pytest

from secondsource.port.apart import ask_apart
from secondsource.port.job import Assigned, Depth, Fault, Program

PROGRAM = Program(step="prefill", sequences=8, context_tokens=256, chunk_tokens=64, prompt_tokens=64)
ANSWER = Assigned(program=PROGRAM, depth=Depth(32), temporaries_bytes=7)


def test_an_answer_and_a_fault_come_back() -> None:
    assert ask_apart(lambda: ANSWER) == ANSWER
    fault = Fault(kind="memory", program=PROGRAM, message="too large")
    assert ask_apart(lambda: fault) == fault


def test_a_copy_that_goes_on_is_ended_once_it_has_answered() -> None:
    read, write = os.pipe()

    def go_on() -> Assigned:
        os.write(write, str(os.getpid()).encode())
        threading.Thread(target=time.sleep, args=(600,)).start()  # as the compiler does: the copy would wait for it
        return ANSWER

    assert ask_apart(go_on) == ANSWER
    os.close(write)
    with pytest.raises(ProcessLookupError):
        os.kill(int(os.read(read, 20)), 0)
    os.close(read)


def test_a_crash_is_a_fault_and_not_a_hang() -> None:
    def crash() -> Assigned:
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(600)
        return ANSWER

    found = ask_apart(crash)
    assert isinstance(found, Fault)
    assert found.kind == "crashed"
    assert "-9" in found.message
