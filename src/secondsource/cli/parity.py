"""`secondsource parity`: does the model on one pool answer as it does on another."""

import argparse
import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from rich.console import Console

from secondsource.core.errors import InputError, SecondsourceError
from secondsource.core.fleet import Fleet, Pool
from secondsource.core.fleet_file import load_fleet, load_secrets
from secondsource.core.parity_record import Ruling

_PROBES, _TOLERANCE, _LONGEST, _AT_ONCE = 200, 0.1, 16384, 4


def add(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb."""
    parser = subparsers.add_parser(
        "parity",
        help="does the model on one pool answer as it does on another",
        description="Put the same probes to two pools and compare what they answer, token by token where there are "
        "log probabilities. The ruling is kept in the state directory, where a gateway that serves the pool with "
        "require_parity = true reads it. Exit 0: at par; 1: not at par, or not enough evidence. See docs/parity.md.",
    )
    parser.add_argument("fleet", type=Path, metavar="FLEET.toml", help="see docs/fleet-file.md")
    parser.add_argument("--pool", metavar="A", help="the pool to judge; default: the one with require_parity")
    parser.add_argument("--against", metavar="B", help="the pool that answers rightly; default: the model's only other")
    parser.add_argument("--probes", type=int, default=_PROBES, help="the most to ask (default: %(default)s)")
    parser.add_argument(
        "--tolerance",
        type=float,
        default=_TOLERANCE,
        metavar="NATS",
        help="how far log probabilities may lie apart, as a root mean square over an answer (default: %(default)s)",
    )
    parser.add_argument(
        "--longest", type=int, default=_LONGEST, metavar="TOKENS", help="longest prompt (default: %(default)s)"
    )
    parser.add_argument("--at-once", type=int, default=_AT_ONCE, help="probes asked together (default: %(default)s)")
    parser.add_argument("--state-dir", help="where the ruling is kept, instead of the file's")
    parser.add_argument("--record", type=Path, metavar="FILE", help="write every exchange there, as JSON lines")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Ask, judge, keep and print; 0 at par, 1 not at par or not enough evidence. Raises InputError."""
    _require_sense(arguments)
    fleet = load_fleet(arguments.fleet)
    a, b = choose_pools(fleet, arguments.pool, arguments.against)
    fleet = msgspec.structs.replace(fleet, pools=(a, b))
    return _examine(arguments, fleet, load_secrets(fleet, os.environ), a, b)


def _examine(arguments: argparse.Namespace, fleet: Fleet, secrets: dict[str, str], a: Pool, b: Pool) -> int:
    # Imported here so that the other verbs start without the gateway's client.
    from secondsource.cli import parity_text  # noqa: PLC0415
    from secondsource.parity.examination import Examined, Terms, examine  # noqa: PLC0415
    from secondsource.parity.replicas import Sides, with_sides  # noqa: PLC0415
    from secondsource.parity.report import keep_report, make_report  # noqa: PLC0415

    terms = Terms(
        probes=arguments.probes,
        tolerance=arguments.tolerance,
        longest=arguments.longest,
        at_once=arguments.at_once,
    )
    results: list[Examined] = []
    began, at = time.monotonic(), datetime.now(UTC)
    with _recorder(arguments.record) as record, parity_text.Progress(a.name, b.name, terms.probes) as progress:

        async def work(sides: Sides) -> None:
            results.append(await examine(sides, terms, progress.tell, record))

        asyncio.run(with_sides(fleet, secrets, a, b, work))
    report = make_report(a, b, results[0], at, time.monotonic() - began)
    try:
        kept = keep_report(report, a, Path(arguments.state_dir or fleet.state_dir))
    except OSError as error:
        raise SecondsourceError(f"the ruling could not be kept: {error}; see --state-dir") from error
    if arguments.json:
        print(msgspec.json.encode(report).decode())
    else:
        parity_text.show(report, kept, Console())
    return 0 if report.ruling is Ruling.AT_PAR else 1


def choose_pools(fleet: Fleet, name: str | None, against: str | None) -> tuple[Pool, Pool]:
    """Return the pool to judge and the one to hold it against; raises InputError when they are not to be told."""
    waiting = [pool for pool in fleet.pools if pool.require_parity]
    if name is None and len(waiting) != 1:
        raise InputError(
            f"which pool is to be judged? {len(waiting)} pools have require_parity = true; name one with --pool: "
            + ", ".join(pool.name for pool in fleet.pools)
        )
    a = waiting[0] if name is None else _named(fleet, "--pool", name)
    if against is not None:
        b = _named(fleet, "--against", against)
        if a is b:
            raise InputError(f"--against {against}: a pool is always at par with itself; name another")
        if a.model != b.model:
            raise InputError(
                f'--against {against}: it serves "{b.model}" and {a.name} serves "{a.model}"; '
                "name a pool of the same model"
            )
        return a, b
    others = [pool for pool in fleet.pools if pool.model == a.model and pool is not a]
    trusted = [pool for pool in others if not pool.require_parity]
    if len(trusted) != 1:
        named = ", ".join(pool.name for pool in others) or "there is none; add the pool that answers rightly"
        raise InputError(f'--against: which pool of "{a.model}" answers rightly? Name one of: {named}')
    return a, trusted[0]


def _named(fleet: Fleet, flag: str, name: str) -> Pool:
    for pool in fleet.pools:
        if pool.name == name:
            return pool
    raise InputError(f"{flag} {name}: the fleet has no such pool; it has: {', '.join(p.name for p in fleet.pools)}")


def _require_sense(arguments: argparse.Namespace) -> None:
    """Raise InputError for a number that cannot be meant."""
    for flag, value, least, most in (
        ("--probes", arguments.probes, 1, 10_000),
        ("--tolerance", arguments.tolerance, 0.001, 10),
        ("--longest", arguments.longest, 256, 10_000_000),
        ("--at-once", arguments.at_once, 1, 256),
    ):
        if not least <= value <= most:
            raise InputError(f"{flag} {value}: expected a number from {least} to {most}")


@contextlib.contextmanager
def _recorder(path: Path | None) -> Iterator[Callable[[msgspec.Struct], None]]:
    if path is None:
        yield lambda _: None
        return
    try:
        file = path.open("wb")
    except OSError as error:
        raise InputError(f"--record {path}: cannot be written: {error.strerror}; name another file") from error
    with file:

        def write(exchange: msgspec.Struct) -> None:
            file.write(msgspec.json.encode(exchange) + b"\n")

        yield write
