"""What ten people who watch the console cost the gateway: windows with nobody and with ten in turn, in one process.

.venv/bin/python benchmarks/console_watchers.py [--rounds 4] [--watchers 10] [--load saturated]

The gateway is held to core 0, the replica, the load and the watchers to core 1. The gateway's CPU for each answer or
event is what to look at; the rate is told beside it.
"""

import argparse
import os
import socket
import statistics
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from secondsource.benchmarking.loads import LOAD_CORE, run_plain, run_streams
from secondsource.benchmarking.peers import KEY, Place, fleet_file
from secondsource.benchmarking.processes import Program, on_core
from secondsource.benchmarking.records import ROWS, Load, Row
from secondsource.benchmarking.stage import await_answer, replica_ports, urls_of
from secondsource.embedded.ports import choose_free_ports

GATEWAY_CORE = 0
EVENTS = b"GET /console/api/now/events HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"


@contextmanager
def gateway(urls: Sequence[str], directory: Path) -> Iterator[tuple[Program, int, int]]:
    """Run the gateway; yields it, its port and its admin port."""
    port, admin = choose_free_ports(2)
    fleet = directory / "fleet.toml"
    fleet.write_text(fleet_file(Place(port=port, spare_port=admin, directory=directory, replicas=tuple(urls))), "utf-8")
    command = on_core(GATEWAY_CORE, [sys.executable, "-m", "secondsource", "up", str(fleet)])
    with Program("gateway", command, directory / "log", {}) as program:
        await_answer(program, port)
        yield program, port, admin


@contextmanager
def watching(admin: int, count: int) -> Iterator[list[int]]:
    """Hold so many event streams open; yields how many bytes each has had."""
    had = [0] * count
    connections = [socket.create_connection(("127.0.0.1", admin)) for _ in range(count)]

    def take(place: int) -> None:
        while data := connections[place].recv(1 << 20):
            had[place] += len(data)

    threads = [threading.Thread(target=take, args=(place,), daemon=True) for place in range(count)]
    for connection, thread in zip(connections, threads, strict=True):
        connection.sendall(EVENTS)
        thread.start()
    try:
        yield had
    finally:
        for connection in connections:
            connection.shutdown(socket.SHUT_RDWR)
        for connection, thread in zip(connections, threads, strict=True):
            thread.join()
            connection.close()


def measure(row: Row, program: Program, port: int, scratch: Path) -> tuple[float, float]:
    """Return answers or events a second, and the gateway's CPU microseconds for each."""
    marks: list[float] = []

    def mark() -> None:
        marks.append(program.cpu_s())

    if row.load is Load.PLAIN:
        plain = run_plain(row, port, KEY, scratch, mark)
        mark()
        done, seconds = plain.requests, plain.duration_us / 1e6
    else:
        streams = run_streams(row, port, KEY, mark, mark)
        done, seconds = streams.events, streams.seconds
    return done / seconds, 1e6 * (marks[1] - marks[0]) / done


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--watchers", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each window; default: %(default)s")
    parser.add_argument("--load", default="saturated", choices=[row.name for row in ROWS])
    arguments = parser.parse_args()
    row = msgspec.structs.replace(next(row for row in ROWS if row.name == arguments.load), window_s=arguments.seconds)
    os.sched_setaffinity(0, {LOAD_CORE})
    counts = (0, arguments.watchers)
    found: dict[int, list[tuple[float, float]]] = {count: [] for count in counts}
    with (
        replica_ports() as ports,
        tempfile.TemporaryDirectory() as scratch,
        gateway(urls_of(ports), Path(scratch)) as (program, port, admin),
    ):
        for number in range(arguments.rounds):
            for count in counts if number % 2 == 0 else counts[::-1]:
                with watching(admin, count) as had:
                    found[count].append(measure(row, program, port, Path(scratch)))
                assert all(had), "a watcher was told nothing"
    sys.stdout.write(f"{row.title}; {arguments.rounds} windows of {row.window_s:g} s each, medians\n")
    for count in counts:
        rate, cpu_us = (statistics.median(values) for values in zip(*found[count], strict=True))
        sys.stdout.write(f"{count:3} watchers  {rate:9,.0f}/s  {cpu_us:7.2f} us CPU each\n")
    ratios = sorted(many[1] / none[1] - 1 for none, many in zip(found[0], found[counts[1]], strict=True))
    told = ", ".join(f"{ratio:+.1%}" for ratio in ratios)
    sys.stdout.write(
        f"CPU with them over without, window by window: median {statistics.median(ratios):+.1%} ({told})\n"
    )


if __name__ == "__main__":
    main()
