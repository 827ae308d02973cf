"""llama.cpp's server with any of its parameters set: `python -m tests.parity_sources.llamacpp MODEL PORT name=value …`.

It serves until its standard input closes.
"""

import json
import os
import sys
import threading
from collections.abc import Sequence

SLOTS = 4


def main(argv: Sequence[str]) -> None:
    """Serve; the values are JSON."""
    import xllamacpp

    model, port, *changes = argv
    parameters = xllamacpp.CommonParams()
    parameters.model.path = model
    parameters.model_alias = {"chat"}
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = int(port)
    parameters.n_parallel = SLOTS
    parameters.n_ctx = SLOTS * 2048
    parameters.n_batch = parameters.n_ubatch = 48
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    parameters.fit_params = False
    parameters.cache_ram_mib = 0
    parameters.ui = False
    for change in changes:
        name, _, value = change.partition("=")
        setattr(parameters, name, json.loads(value))
    server = xllamacpp.Server(parameters)
    print(server.listening_address, flush=True)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    threading.Event().wait()


def _end_with_parent() -> None:
    while os.read(0, 4096):
        pass
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
