"""What one ledger record costs the hot path: `Journal.append` beside a plain `write` of the same bytes.

Rounds are interleaved and the ratio is taken round by round, so that a noisy machine disturbs both alike.

    python benchmarks/journal_append.py [--records N] [--rounds N] [--directory DIR]
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from secondsource.core.records import Kind, LedgerRecord, Outcome, Reserved, Settled
from secondsource.gateway.books.journal import Journal
from secondsource.gateway.books.ledger import Ledger


def records_of(count: int) -> list[LedgerRecord]:
    """Return reservations and settlements as the gateway makes them, in turn."""
    records: list[LedgerRecord] = []
    for number in range(count // 2):
        request_id = f"req_0123456789abcdef{number:08x}"
        at_ns = time.time_ns()
        reserved = Reserved(
            attempt_id=f"{request_id}.1",
            request_id=request_id,
            number=1,
            kind=Kind.FIRST,
            at_ns=at_ns,
            tenant="acme",
            lane="paid",
            key_id="0123456789ab",
            endpoint="/v1/chat/completions",
            model="smollm2-135m-instruct",
            streamed=True,
            pool="azure-h100",
            supplier="azure",
            chip="h100-sxm",
            replica="http://127.0.0.1:9001",
        )
        settled = Settled(
            attempt_id=reserved.attempt_id,
            at_ns=at_ns + 1_500_000_000,
            outcome=Outcome.OK,
            status=200,
            duration_ns=1_500_000_000,
            first_token_ns=80_000_000,
            replica_ns=300_000_000,
            tokens_in=412,
            tokens_cached=128,
            tokens_out=200,
            usage_counted=False,
            cost_nano_usd=581_666,
            tenant_nano_usd=581_666,
        )
        records += (reserved, settled)
    return records


def microseconds_each(work: Callable[[], None], count: int) -> float:
    """Return the time of one of `count` units of work in microseconds."""
    started = time.perf_counter_ns()
    work()
    return (time.perf_counter_ns() - started) / count / 1000


def run_round(directory: Path, records: Sequence[LedgerRecord], number: int) -> tuple[float, float, float]:
    """Return microseconds for an append, for a plain write of the same bytes, and for absorbing a record."""
    state_dir = directory / f"round-{number}"
    ledger = Ledger(state_dir)
    journal = Journal(ledger.journals, worker=0, started_ns=number)

    def append() -> None:
        for record in records:
            journal.append(record)
            journal.flush()

    appended = microseconds_each(append, len(records))
    lines = b"".join(path.read_bytes() for path in sorted(ledger.journals.glob("*.jsonl"))).splitlines(keepends=True)
    descriptor = os.open(directory / f"plain-{number}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write() -> None:
        for line in lines:
            os.write(descriptor, line)

    written = microseconds_each(write, len(lines))
    os.close(descriptor)
    absorbed = microseconds_each(lambda: absorb_all(ledger), len(records))
    journal.close()
    ledger.close()
    return appended, written, absorbed


def absorb_all(ledger: Ledger) -> None:
    """Absorb everything that the journal holds."""
    while ledger.absorb().more:
        pass


def main() -> None:
    """Print medians over the rounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--directory", type=Path, help="where to write; default: the system's temporary directory")
    arguments = parser.parse_args()
    records = records_of(arguments.records)
    with tempfile.TemporaryDirectory(dir=arguments.directory) as name:
        rounds = [run_round(Path(name), records, number) for number in range(arguments.rounds)]
    appended, written, absorbed = (statistics.median(column) for column in zip(*rounds, strict=True))
    ratio = statistics.median(append / write for append, write, _ in rounds)
    lines = (
        f"{len(records)} records a round, medians of {len(rounds)} rounds, wall-clock",
        f"append to the journal     {appended:6.2f} µs",
        f"plain write, same bytes   {written:6.2f} µs",
        f"append / plain write      {ratio:6.2f}",
        f"absorb into the ledger    {absorbed:6.2f} µs   (on its own thread)",
    )
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
