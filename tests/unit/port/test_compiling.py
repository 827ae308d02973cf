import sys
import time
from pathlib import Path

import pytest

from secondsource.port.compiling import run_compile
from secondsource.port.job import Answer, Depth, Depths, Job, Program
from tests.unit.port.fakes import ask, silent


def job() -> Job:
    setup = ask().setup(1, 8)
    program = Program(step="decode", sequences=8, context_tokens=256)
    return Job(
        config=setup.config,
        weights="bf16",
        target=setup.target,
        data_parallel=1,
        programs=((program, Depths((Depth(1),))),),
    )


def child(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def test_a_crash_is_an_answer() -> None:
    crash = "import os, sys; sys.stderr.write('F0000 check failed: tiles'); sys.stderr.flush(); os.abort()"
    answer = run_compile(job(), 30, silent, child(crash))
    assert answer.compiled == ()
    assert answer.fault is not None
    assert answer.fault.kind == "crashed"
    assert "SIGABRT" in answer.fault.message
    assert "check failed: tiles" in answer.fault.message


def test_a_hang_ends_at_the_limit() -> None:
    began = time.monotonic()
    answer = run_compile(job(), 0.5, silent, child("import time; time.sleep(600)"))
    assert answer.fault is not None
    assert answer.fault.kind == "time"
    assert time.monotonic() - began < 60


def test_progress_and_the_answer_pass() -> None:
    talk = (
        'import sys; sys.stdin.read(); print(\'{"type":"progress","text":"half"}\');'
        'print(\'{"type":"answer","compiled":[],"fault":null}\')'
    )
    said: list[str] = []
    assert run_compile(job(), 30, said.append, child(talk)) == Answer(())
    assert said == ["half"]


def test_interrupting_ends_the_child() -> None:
    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    talk = 'import sys, time; print(\'{"type":"progress","text":"x"}\', flush=True); time.sleep(600)'
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_compile(job(), 300, interrupt, child(talk))
    assert time.monotonic() - began < 60


def test_a_compiler_that_cannot_be_opened_says_nothing_of_the_model() -> None:
    from secondsource.port.child import fault_of

    assert fault_of(RuntimeError("ABORTED: lockfile"), None).kind == "crashed"
    program = Program(step="decode", sequences=8, context_tokens=256)
    assert fault_of(RuntimeError("UNIMPLEMENTED: sort"), program).kind == "refused"
    assert fault_of(RuntimeError("RESOURCE_EXHAUSTED: Ran out of memory on HBM"), program).kind == "memory"


def test_what_the_child_leaves_behind_is_taken_away() -> None:
    talk = (
        "import os, sys, tempfile; sys.stdin.read(); left = tempfile.mkdtemp(); open(left + '/dump', 'w').close();"
        'print(\'{"type":"progress","text":"%s"}\' % left, flush=True); os._exit(0)'
    )
    said: list[str] = []
    run_compile(job(), 30, said.append, child(talk))
    (left,) = said
    assert not Path(left).exists()
