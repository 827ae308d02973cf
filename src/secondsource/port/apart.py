"""Ask a compiler something in a copy of this process, and end the copy once it has answered.

A compiler that was asked for memory alone goes on with code that nobody waits for. Beside the next question that would
take a processor from it. The copy is made before this process has opened a compiler, and so has no threads of one;
what was imported until then is there already.
"""

import multiprocessing
from collections.abc import Callable

import msgspec

from secondsource.port.job import Assigned, Fault

_DECODER: msgspec.json.Decoder[Assigned | Fault] = msgspec.json.Decoder(Assigned | Fault)


def ask_apart(ask: Callable[[], Assigned | Fault]) -> Assigned | Fault:
    """Return what `ask` answers in a copy of this process; a copy that ends without an answer is a fault."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    copy = context.Process(target=lambda: theirs.send_bytes(msgspec.json.encode(ask())))
    copy.start()
    theirs.close()
    try:
        return _DECODER.decode(ours.recv_bytes())
    except EOFError:
        copy.join()
        return Fault(kind="crashed", program=None, message=f"the compiler ended with status {copy.exitcode}")
    finally:
        ours.close()
        copy.kill()
        copy.join()
