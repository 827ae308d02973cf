"""`python -m secondsource.port.child`: compile one job, read from standard input; say how it goes, line by line.

A process of its own: a compiler that crashes or hangs takes only this one with it.
"""

import functools
import os
import re
import sys
import traceback
from pathlib import Path
from typing import Any, BinaryIO, Literal, NoReturn

import jax
import msgspec

from secondsource.core.errors import InputError
from secondsource.port.apart import ask_apart
from secondsource.port.job import Answer, Assigned, Compiled, Depth, Depths, Fault, Job, Program, Progress, Said
from secondsource.port.kept import Kept, keep
from secondsource.port.program import assign_program, compile_program, mesh_of, open_devices

_MESSAGE_CHARACTERS = 2000
_OUR_SOURCE = str(Path(__file__).resolve().parents[1])
_SOURCE_LINE = re.compile(r'source_file="([^"]+)" source_line=(\d+)')
_OPERATION = re.compile(r'op_name="([^"]+)"')
_REFUSALS = (jax.errors.JaxRuntimeError, InputError, ValueError, TypeError, NotImplementedError, RuntimeError)
_MEMORY = ("RESOURCE_EXHAUSTED", "Ran out of memory", "exceeds available HBM", "out of memory")


def work(job: Job, out: BinaryIO) -> Answer:
    """Ask for the memory of what is not to be compiled, then compile; the first fault is the one that is told.

    A model that does not fit is compiled all the same: whether every operation compiles is asked as well.
    """
    assigned, fault = _assigned(job, out)
    if fault is not None and fault.kind != "memory":
        return Answer((), fault, assigned)
    compiled, refused = _compiled(job, out)
    return Answer(compiled, refused if fault is None or refused is not None else fault, assigned)


def _assigned(job: Job, out: BinaryIO) -> tuple[tuple[Assigned, ...], Fault | None]:
    found: list[Assigned] = []
    asked = [(program, depth) for program, depths in job.programs for depth in depths.assigned]
    for program, depth in asked if job.target.cycles_per_s else ():
        say(out, Progress(f"{program.step} on {job.target.chips} x {job.target.chip}, memory of {depth.layers} layers"))
        answer = ask_apart(functools.partial(_assign, job, program, depth))
        if isinstance(answer, Fault):
            return tuple(found), answer
        found.append(answer)
    return tuple(found), None


def _assign(job: Job, program: Program, depth: Depth) -> Assigned | Fault:
    reached: Program | None = None
    try:
        mesh = mesh_of(job, open_devices(job.target))
        reached = program
        return assign_program(job, program, depth, mesh)
    except _REFUSALS as error:
        return fault_of(error, reached)


def _compiled(job: Job, out: BinaryIO) -> tuple[tuple[Compiled, ...], Fault | None]:
    """Compile every program; of a decode step one depth is enough where the walk saw each layer end."""
    done: list[Compiled] = []
    program: Program | None = None
    try:
        mesh = mesh_of(job, open_devices(job.target))
        for program, depths in job.programs:
            for depth in reversed(depths.compiled):
                say(out, Progress(f"{program.step} on {job.target.chips} x {job.target.chip}, {depth.layers} layers"))
                compiled, executable = compile_program(job, program, depth, mesh)
                done.append(compiled)
                _keep(job, program, depth, executable)
                if _is_enough(compiled, depths):
                    break
    except _REFUSALS as error:
        return tuple(done), fault_of(error, program)
    return tuple(done), None


def _is_enough(compiled: Compiled, depths: Depths) -> bool:
    ends = () if compiled.walked is None else compiled.walked.layers
    return compiled.program.step == "decode" and bool(depths.assigned) and len(ends) == compiled.depth.layers


def fault_of(error: Exception, program: Program | None) -> Fault:
    """Return the fault of an error: what the compiler said, and where in our source it lies."""
    message = str(error)
    kind: Literal["memory", "refused", "crashed"] = "memory" if any(word in message for word in _MEMORY) else "refused"
    if program is None:
        kind = "crashed"  # the compiler could not be opened, which says nothing of the model
    shown = message if len(message) <= _MESSAGE_CHARACTERS else message[:_MESSAGE_CHARACTERS] + " ..."
    return Fault(kind=kind, program=program, message=shown, where=_where(error, message))


def _where(error: Exception, message: str) -> str:
    """Return the line of ours that an error names, or the innermost line of ours that led to it."""
    found = _SOURCE_LINE.search(message)
    if found:
        return f"{found[1]}:{found[2]}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(_OUR_SOURCE)]
    operation = _OPERATION.search(message)
    inner = [frame for frame in frames if "/port/" not in frame.filename]
    place = f"{Path(inner[-1].filename).relative_to(_OUR_SOURCE)}:{inner[-1].lineno}" if inner else ""
    return ", ".join(filter(None, (operation[1] if operation else "", place)))


def _keep(job: Job, program: Program, depth: Depth, executable: Any) -> None:
    filled = f"-f{program.filled_tokens}" if program.filled_tokens else ""
    name = f"{program.step}-b{program.sequences}-c{program.context_tokens}{filled}-l{depth.layers}-{job.target.chip}"
    if job.keep_text_in:
        Path(job.keep_text_in, f"{name}.hlo.txt").write_text(executable.as_text(), "utf-8")
    if job.save_to:
        keep(Path(job.save_to, f"{name}.xla"), Kept(job=job, program=program, depth=depth), executable)


def say(out: BinaryIO, said: Said) -> None:
    """Write one line to the parent."""
    out.write(msgspec.json.encode(said) + b"\n")
    out.flush()


def main() -> NoReturn:
    """Read a job, answer it; libraries that print get standard error."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    say(out, work(job, out))
    os._exit(0)  # a compiler takes long to be taken down


if __name__ == "__main__":
    main()
