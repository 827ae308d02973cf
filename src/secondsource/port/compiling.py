"""Run a compile in a process of its own, so that a compiler's crash or hang becomes an answer."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from secondsource.port.job import Answer, Fault, Job, Progress, Said

_MESSAGE_CHARACTERS = 2000
_DECODER = msgspec.json.Decoder(Said)
_QUIET = {  # libtpu asks Google's metadata server what machine this is, unless told; the host itself computes on CPU
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_LIBRARY_PATH": "",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # nobody drives a chip here, so two compiles at once are no conflict
    "TF_CPP_MIN_LOG_LEVEL": "2",
}


CHILD = (sys.executable, "-m", "secondsource.port.child")


def run_compile(job: Job, seconds: float, say: Callable[[str], None], command: tuple[str, ...] = CHILD) -> Answer:
    """Return what compiling the job came to; a crash and a timeout are answers with a fault.

    `seconds` bounds the whole job. The child is ended when the caller is interrupted. What it leaves in its temporary
    directory is ours to take away: its compiler may be writing when it ends.
    """
    with tempfile.TemporaryFile() as errors, tempfile.TemporaryDirectory() as scratch:
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**_environment(os.environ), "TMPDIR": scratch},
            start_new_session=True,
        )
        out_of_time = threading.Event()
        timer = threading.Timer(seconds, _end, (child, out_of_time))
        timer.start()
        try:
            answer = _listen(child, job, say)
        finally:
            timer.cancel()
            _kill(child)
        if answer is not None:
            return answer
        errors.seek(0)
        return Answer(
            (), _silence(child.returncode, out_of_time.is_set(), seconds, errors.read().decode("utf-8", "replace"))
        )


def _environment(own: Mapping[str, str]) -> dict[str, str]:
    environment = {**own, **_QUIET}
    if not environment["TPU_LIBRARY_PATH"]:
        del environment["TPU_LIBRARY_PATH"]
    source = str(Path(__file__).resolve().parents[2])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (source, own.get("PYTHONPATH", ""))))
    return environment


def _listen(child: "subprocess.Popen[bytes]", job: Job, say: Callable[[str], None]) -> Answer | None:
    if child.stdin is None or child.stdout is None:
        raise RuntimeError("a child process was started without pipes")
    with contextlib.suppress(BrokenPipeError), child.stdin:
        child.stdin.write(msgspec.json.encode(job))
    answer = None
    with child.stdout:
        for line in child.stdout:
            said = _DECODER.decode(line)
            if isinstance(said, Progress):
                say(said.text)
            else:
                answer = said
    child.wait()
    return answer


def _end(child: "subprocess.Popen[bytes]", out_of_time: threading.Event) -> None:
    out_of_time.set()
    _kill(child)


def _kill(child: "subprocess.Popen[bytes]") -> None:
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _silence(status: int | None, out_of_time: bool, seconds: float, errors: str) -> Fault:
    """Return why a child ended without an answer."""
    if out_of_time:
        return Fault(kind="time", program=None, message=f"the compiler did not finish within {seconds:g} s")
    ended = f"signal {signal.Signals(-status).name}" if status is not None and status < 0 else f"status {status}"
    tail = errors.strip()[-_MESSAGE_CHARACTERS:]
    return Fault(kind="crashed", program=None, message=f"the compiler ended with {ended}; its last words:\n{tail}")
