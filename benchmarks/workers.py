"""How throughput grows with workers: one and more of them in turn, under the same load, in one run.

.venv/bin/python benchmarks/workers.py [--workers 1,2] [--rounds 2] [--load plain-64]

The replica and the load client are held to core 1; the gateway may use every core, and so shares that one. What the
machine had left is told beside each row: where that is nothing, the cores bound it, and not the gateway.
"""

import argparse
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from secondsource.benchmarking.loads import run_plain, run_streams
from secondsource.benchmarking.peers import KEY, Place, fleet_file
from secondsource.benchmarking.processes import Program
from secondsource.benchmarking.records import ROWS, Load, Row
from secondsource.benchmarking.stage import await_answer, replica_ports, urls_of
from secondsource.embedded.ports import choose_free_ports


class Window:
    """What was done in a row's window, and what the gateway and the machine spent on it."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._cpu_s = self._idle_s = self._all_s = 0.0

    def begin(self) -> None:
        """Mark its start."""
        self._cpu_s = self._program.cpu_s()
        self._idle_s, self._all_s = machine_s()

    def end(self) -> None:
        """Mark its end."""
        idle_s, all_s = machine_s()
        self.cpu_s = self._program.cpu_s() - self._cpu_s
        self.idle = (idle_s - self._idle_s) / max(all_s - self._all_s, 1e-9)


def machine_s() -> tuple[float, float]:
    """Return what all cores have idled, and all their time, in ticks."""
    ticks = [int(field) for field in Path("/proc/stat").read_text("ascii").splitlines()[0].split()[1:9]]
    return float(ticks[3] + ticks[4]), float(sum(ticks))


@contextmanager
def gateway(workers: int, urls: Sequence[str], directory: Path) -> Iterator[tuple[Program, int]]:
    """Run the gateway with so many workers; yields it and its port."""
    port, spare = choose_free_ports(2)
    place = Place(port=port, spare_port=spare, directory=directory, replicas=tuple(urls))
    fleet = directory / "fleet.toml"
    fleet.write_text(fleet_file(place), "utf-8")
    command = [sys.executable, "-m", "secondsource", "up", str(fleet), "--workers", str(workers)]
    with Program(f"{workers} workers", command, directory / "log", {}) as program:
        await_answer(program, port)
        yield program, port


def measure(row: Row, workers: int, urls: Sequence[str]) -> tuple[float, float, float]:
    """Return answers or events a second, the gateway's CPU microseconds for each, and the machine's idle part."""
    with tempfile.TemporaryDirectory() as scratch, gateway(workers, urls, Path(scratch)) as (program, port):
        window = Window(program)
        if row.load is Load.PLAIN:
            plain = run_plain(row, port, KEY, Path(scratch), window.begin)
            window.end()
            done, seconds, failed = plain.requests, plain.duration_us / 1e6, plain.failed
        else:
            streams = run_streams(row, port, KEY, window.begin, window.end)
            done, seconds, failed = streams.events, streams.seconds, streams.refused + streams.cut
        if failed:
            sys.stderr.write(f"{failed} failed: {program.last_words()}\n")
        return done / seconds, 1e6 * window.cpu_s / done, window.idle


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--load", default="plain-64", choices=[row.name for row in ROWS])
    arguments = parser.parse_args()
    row = next(row for row in ROWS if row.name == arguments.load)
    counts = [int(one) for one in arguments.workers.split(",")]
    found: defaultdict[int, list[tuple[float, float, float]]] = defaultdict(list)
    with replica_ports() as ports:
        for _ in range(arguments.rounds):
            for workers in counts:
                found[workers].append(measure(row, workers, urls_of(ports)))
    sys.stdout.write(f"{row.title}; medians of {arguments.rounds} rounds\n")
    base = statistics.median(rate for rate, _, _ in found[counts[0]])
    for workers in counts:
        rate, cpu_us, idle = (statistics.median(values) for values in zip(*found[workers], strict=True))
        ratio = f"{rate / base:5.2f}x"
        sys.stdout.write(
            f"{workers:3} workers  {rate:9,.0f}/s {ratio}  {cpu_us:6.1f} us CPU each  {idle:5.1%} of the machine idle\n"
        )


if __name__ == "__main__":
    main()
