"""The stage of one run: the replica and every gateway up and answering, each on its core, until the block ends."""

import contextlib
import http.client
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from secondsource.benchmarking.loads import LOAD_CORE, PATH, plain_body
from secondsource.benchmarking.peers import DIRECT, KEY, OURS, Peer, Place
from secondsource.benchmarking.processes import Program, on_core
from secondsource.benchmarking.tools import compiled
from secondsource.core.errors import SecondsourceError
from secondsource.embedded.ports import choose_free_ports

GATEWAY_CORE = 0
REPLICAS = 2
_READY_WITHIN_S = 90.0


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """One gateway that is up: `program` is None for no gateway at all."""

    name: str
    version: str
    port: int
    program: Program | None


@contextlib.contextmanager
def stage(
    peers: Sequence[Peer], scratch: Path, say: Callable[[str], None], absent: dict[str, str]
) -> Iterator[list[Candidate]]:
    """Start the replica and all `peers`; yield them, the bare replica first, and stop everything at the end.

    A peer that does not start is put into `absent` with the reason; without ours there is nothing to measure, and
    SecondsourceError is raised.
    """
    with contextlib.ExitStack() as running:
        ports = running.enter_context(replica_ports())
        urls = urls_of(ports)
        candidates = [Candidate(name=DIRECT, version="", port=ports[0], program=None)]
        taken = set(ports)
        for peer in peers:
            say(f"starting {peer.name}")
            port, spare = choose_free_ports(2, avoid=taken)
            taken |= {port, spare}
            place = Place(port=port, spare_port=spare, directory=scratch / peer.name, replicas=urls)
            try:
                candidates.append(_start(peer, place, running))
            except SecondsourceError as error:
                if peer.name == OURS:
                    raise
                absent[peer.name] = str(error)
        yield candidates


def _start(peer: Peer, place: Place, running: contextlib.ExitStack) -> Candidate:
    place.directory.mkdir(parents=True)
    start = peer.start(place)
    command = on_core(GATEWAY_CORE, start.command)
    program = running.enter_context(Program(peer.name, command, place.directory / "log", start.environment))
    await_answer(program, place.port)
    return Candidate(name=peer.name, version=peer.version(), port=place.port, program=program)


@contextlib.contextmanager
def replica_ports() -> Iterator[list[int]]:
    """Run the fake replica on its core; yields the ports it answers on."""
    command = on_core(LOAD_CORE, [compiled("replica"), "0", str(REPLICAS)])
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as replica:
        assert replica.stdout is not None
        try:
            yield [int(replica.stdout.readline()) for _ in range(REPLICAS)]
        finally:
            replica.terminate()


def urls_of(ports: Sequence[int]) -> tuple[str, ...]:
    """Return the replica's base URLs."""
    return tuple(f"http://127.0.0.1:{port}" for port in ports)


def await_answer(program: Program, port: int) -> None:
    """Wait until a gateway answers a small request; raises SecondsourceError when it does not in time."""
    ends = time.monotonic() + _READY_WITHIN_S
    said = "nothing"
    while time.monotonic() < ends:
        program.require_alive()
        try:
            said = ask_once(port)
        except OSError as error:
            said = str(error)
        if said == "200":
            return
        time.sleep(0.2)
    raise SecondsourceError(
        f"{program.name} did not answer within {_READY_WITHIN_S:.0f} s (it answered {said}): {program.last_words()}"
    )


def ask_once(port: int) -> str:
    """Return the status of one small plain request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5.0)
    try:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
        connection.request("POST", PATH, plain_body(16), headers)
        return str(connection.getresponse().status)
    except http.client.HTTPException as error:
        return f"something that is not HTTP ({type(error).__name__})"
    finally:
        connection.close()
