"""`secondsource bench gateway`: the gateway, with everything on, beside its peers, one core each."""

import argparse
import contextlib
import os
import shlex
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from rich.console import Console

from secondsource.benchmarking.aims import judge
from secondsource.benchmarking.arithmetic import summarise
from secondsource.benchmarking.drift import Drift, Sample, steady_load, watch
from secondsource.benchmarking.machine import describe_machine
from secondsource.benchmarking.markdown import NEW_PAGE, Setting, drift_section, gateways_section, replace_section
from secondsource.benchmarking.peers import BASELINE, DIRECT, OURS, PEERS, Peer, require
from secondsource.benchmarking.records import ROWS, Row, Slice
from secondsource.benchmarking.rounds import Plan, measure
from secondsource.benchmarking.stage import Candidate, stage
from secondsource.benchmarking.tools import cache_directory, compiled, find_tool
from secondsource.cli import bench_gateway_text as text
from secondsource.cli.plan_progress import Progress
from secondsource.core.errors import InputError

PIPED_WIDTH = 160  # a pipe has no width of its own


def run(arguments: argparse.Namespace) -> int:
    """Measure, print, write; 0, or 1 where a gateway that was asked for cannot take part. Raises InputError."""
    peers, rows = choose(arguments.only)
    _require_sense(arguments)
    _require_machine()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started is stopped, as by Ctrl-C
    if arguments.minutes is not None:
        return _watch(arguments)
    kept = read_kept(arguments.keep)
    with Progress() as progress:
        ready, absent = _ready(peers, progress)
        slices = _measure(arguments, (ready, rows), kept, progress, absent)
    _tell(arguments, slices, absent)
    return 1 if absent else 0


def choose(only: Sequence[str]) -> tuple[tuple[Peer, ...], tuple[Row, ...]]:
    """Return the gateways and rows that are meant; InputError for a name of neither."""
    known = [*(peer.name for peer in PEERS), *(row.name for row in ROWS)]
    for name in only:
        if name not in known:
            raise InputError(f"--only {name}: expected a gateway or a row, one of {', '.join(known)}")
    peers = tuple(peer for peer in PEERS if peer.name in only) or PEERS
    rows = tuple(row for row in ROWS if row.name in only) or ROWS
    return peers, rows


def read_kept(path: Path | None) -> list[Slice]:
    """Return the slices of an earlier run; InputError for a file that is none."""
    if path is None or not path.exists():
        return []
    try:
        return msgspec.json.Decoder(Slice).decode_lines(path.read_bytes())
    except msgspec.DecodeError as error:
        raise InputError(f"{path}: expected what an earlier run kept: {error}") from error


def _require_sense(arguments: argparse.Namespace) -> None:
    if arguments.rounds < 1:
        raise InputError(f"--rounds {arguments.rounds}: at least 1")
    if arguments.minutes is None:
        return
    if not 0 < arguments.minutes <= 60 * 24 * 7:
        raise InputError(f"--minutes {arguments.minutes:g}: more than 0 and at most a week")
    for flag, given in (("--only", arguments.only), ("--keep", arguments.keep), ("--lock", arguments.lock)):
        if given:
            raise InputError(f"{flag} does not go with --minutes, which loads our gateway alone")


def _require_machine() -> None:
    if not {0, 1} <= os.sched_getaffinity(0):
        raise InputError("this needs the cores 0 and 1: one for the gateway, one for the replica and the client")
    for tool in ("wrk", "taskset"):
        find_tool(tool)
    for program in ("replica", "client"):
        compiled(program)


def _ready(peers: Sequence[Peer], progress: Progress) -> tuple[list[Peer], dict[str, str]]:
    """Return the peers that can start, and why the others cannot."""
    ready, absent = [], {}
    for peer in peers:
        progress.say(f"making {peer.name} ready")
        reason = require(peer)
        if reason is None:
            ready.append(peer)
        else:
            absent[peer.name] = reason
    return ready, absent


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """Give a directory on the disk of the user's cache: a ledger in memory would cost less than a real one."""
    cache_directory().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_directory(), prefix="run-", ignore_cleanup_errors=True) as directory:
        yield Path(directory)


def _measure(
    arguments: argparse.Namespace,
    chosen: tuple[Sequence[Peer], Sequence[Row]],
    kept: Sequence[Slice],
    progress: Progress,
    absent: dict[str, str],
) -> list[Slice]:
    peers, rows = chosen

    def keep(one: Slice) -> None:
        if arguments.keep is not None:
            with arguments.keep.open("ab") as file:
                file.write(msgspec.json.encode(one) + b"\n")

    with _scratch() as scratch:
        plan = Plan(rows=rows, rounds=arguments.rounds, scratch=scratch, locks=arguments.lock, kept=kept)
        with stage(peers, scratch, progress.say, absent) as candidates:
            return measure(plan, candidates, progress.say, keep)


def _tell(arguments: argparse.Namespace, slices: Sequence[Slice], absent: Mapping[str, str]) -> None:
    summaries = summarise(slices, DIRECT, BASELINE)
    setting = _setting(arguments)
    if arguments.write is not None:
        _write(arguments.write, "bench gateway", gateways_section(summaries, absent, setting))
    if arguments.json:
        _print_json({"setting": setting, "summaries": summaries, "aims": judge(summaries), "absent": absent})
    else:
        text.show(_console(), summaries)
    for name, reason in absent.items():
        print(f"secondsource: {name} took no part: {reason}", file=sys.stderr)


def _watch(arguments: argparse.Namespace) -> int:
    """Load our gateway for the minutes asked and tell its memory; 0 flat, 1 not."""
    ours = [peer for peer in PEERS if peer.name == OURS]
    with Progress() as progress, _scratch() as scratch, stage(ours, scratch, progress.say, {}) as candidates:
        drift = _drift(candidates[-1], arguments.minutes, progress)
    setting = _setting(arguments)
    if arguments.write is not None:
        section = drift_section(drift, steady_load(arguments.minutes).title, setting)
        _write(arguments.write, "bench gateway --minutes", section)
    if arguments.json:
        _print_json({"setting": setting, "drift": drift, "flat": drift.flat})
    else:
        text.show_drift(_console(), drift)
    return 0 if drift.flat else 1


def _drift(candidate: Candidate, minutes: float, progress: Progress) -> Drift:
    def tell(sample: Sample) -> None:
        held = f"{sample.rss_bytes / 1e6:.1f} MB after {sample.streams:,} streams"
        progress.say(f"minute {sample.at_s / 60:.1f} of {minutes:g}: {held}, {sample.failed} failed")

    progress.say(f"loading for {minutes:g} minutes")
    return watch(candidate, minutes, tell)


def _setting(arguments: argparse.Namespace) -> Setting:
    words = ["secondsource", "bench", "gateway"]
    if arguments.minutes is not None:
        words += ["--minutes", f"{arguments.minutes:g}"]
    else:
        words += [word for name in arguments.only for word in ("--only", name)]
        words += ["--rounds", str(arguments.rounds)]
    if arguments.write is not None:
        words += ["--write", str(arguments.write)]
    date = f"{datetime.now(UTC):%Y-%m-%d}"
    return Setting(date=date, machine=describe_machine(), command=shlex.join(words))


def _write(path: Path, name: str, section: str) -> None:
    page = path.read_text("utf-8") if path.exists() else NEW_PAGE
    path.write_text(replace_section(page, name, section), "utf-8")


def _print_json(value: object) -> None:
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")


def _console() -> Console:
    return Console() if sys.stdout.isatty() else Console(width=PIPED_WIDTH)
