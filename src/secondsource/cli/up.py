"""`secondsource up`: serve a fleet file, or, without one, this machine's own two sources."""

import argparse
import asyncio
import contextlib
import os
import resource
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NoReturn

import msgspec

from secondsource.cli import up_check
from secondsource.cli.screen import Screen
from secondsource.cli.up_embedded import Embedded, prepare_embedded, require_llamacpp
from secondsource.core.addresses import is_loopback
from secondsource.core.errors import InputError
from secondsource.core.fleet import Fleet
from secondsource.core.fleet_checks import require_consistent
from secondsource.core.fleet_file import load_fleet, load_secrets
from secondsource.embedded.ports import is_free

MOST_WORKERS = 1024

_DEFAULTS = Fleet(suppliers=(), pools=())


def add(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb."""
    parser = subparsers.add_parser(
        "up",
        help="serve a fleet, or, without a fleet file, this machine's own two sources",
        description="Serve the fleet that a file describes. Without a file: a small real model from two "
        "processes on this machine, which stand for two suppliers.",
    )
    parser.add_argument("fleet", nargs="?", type=Path, metavar="FLEET.toml", help="see docs/fleet-file.md")
    parser.add_argument("--check", action="store_true", help="ask each replica what it can do; serve nothing")
    parser.add_argument("--json", action="store_true", help="with --check: print the findings as JSON")
    parser.add_argument("--model", type=Path, metavar="PATH.gguf", help="without a fleet file: the model to serve")
    parser.add_argument(
        "--local-b",
        choices=("engine", "llamacpp"),
        help="without a fleet file: what runs the second source; otherwise our own engine, where it can",
    )
    parser.add_argument("--host", help="the address to listen on, instead of the file's or 127.0.0.1")
    parser.add_argument("--port", type=int, help="the port, instead of the file's or 8080; 0: any free one")
    parser.add_argument("--admin-port", type=int, help="the admin port, instead of the file's or 8081; 0: any free one")
    parser.add_argument("--workers", type=int, help="processes that share the port, instead of the file's or 1")
    parser.add_argument("--state-dir", help="where ledger and logs are, instead of the file's or .secondsource")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serve until told to stop, or check; 0 done, 1 the check found a fault. Raises InputError."""
    _require_sense(arguments)
    screen = Screen()
    with _terminate_like_interrupt():
        if arguments.check:
            return _check(arguments, screen)
        if arguments.fleet is None:
            return _serve_embedded(arguments, screen)

        def reread() -> tuple[Fleet, Mapping[str, str]]:
            fleet = with_flags(load_fleet(arguments.fleet), arguments)
            return fleet, load_secrets(fleet, os.environ)

        return _serve(*reread(), screen, reread=reread)


def with_flags(fleet: Fleet, arguments: argparse.Namespace) -> Fleet:
    """Return `fleet` with what the flags override, held to the same rules as a file."""
    gateway, admin = fleet.gateway, fleet.admin
    if arguments.host is not None:
        gateway = msgspec.structs.replace(gateway, host=arguments.host)
    if arguments.port is not None:
        gateway = msgspec.structs.replace(gateway, port=arguments.port)
    if arguments.admin_port is not None:
        admin = msgspec.structs.replace(admin, port=arguments.admin_port)
    workers = fleet.workers if arguments.workers is None else arguments.workers
    state_dir = fleet.state_dir if arguments.state_dir is None else arguments.state_dir
    changed = msgspec.structs.replace(fleet, gateway=gateway, admin=admin, workers=workers, state_dir=state_dir)
    require_consistent(changed, "the fleet with this command's flags")
    return changed


def _require_sense(arguments: argparse.Namespace) -> None:
    """Raise InputError for flags that do not go together, before anything is done."""
    if arguments.check and arguments.fleet is None:
        raise InputError("--check needs a fleet file: secondsource up --check FLEET.toml")
    if arguments.json and not arguments.check:
        raise InputError("--json goes with --check")
    if arguments.model is not None and arguments.fleet is not None:
        raise InputError("--model is for serving without a fleet file; give one of the two")
    if arguments.local_b is not None and arguments.fleet is not None:
        raise InputError("--local-b is for serving without a fleet file")
    if arguments.workers is not None and not 1 <= arguments.workers <= MOST_WORKERS:
        raise InputError(f"--workers {arguments.workers}: there are 1 to {MOST_WORKERS}")
    for flag, port in (("--port", arguments.port), ("--admin-port", arguments.admin_port)):
        if port is not None and not 0 <= port <= 65535:
            raise InputError(f"{flag} {port}: a port lies between 0 (any free one) and 65535")


def _serve_embedded(arguments: argparse.Namespace, screen: Screen) -> int:
    require_llamacpp()
    port = _DEFAULTS.gateway.port if arguments.port is None else arguments.port
    admin_port = _DEFAULTS.admin.port if arguments.admin_port is None else arguments.admin_port
    if arguments.host is not None and not is_loopback(arguments.host):
        raise InputError(
            f"--host {arguments.host}: without a fleet file there are no keys, so only this machine may connect; "
            "to serve others, write a fleet file with [[keys]] (docs/fleet-file.md)"
        )
    for flag, wanted in (("--port", port), ("--admin-port", admin_port)):
        # Said now: a port that is taken should not be found out after 93 MB were fetched.
        if wanted and not is_free(wanted):
            raise InputError(f"port {wanted} is taken by another program; choose another with {flag}")
    embedded = prepare_embedded(
        arguments.model,
        arguments.local_b,
        arguments.state_dir or _DEFAULTS.state_dir,
        (port, admin_port),
        os.environ,
        screen,
    )
    return _serve(with_flags(embedded.fleet, arguments), {}, screen, embedded=embedded)


def _serve(
    fleet: Fleet,
    secrets: Mapping[str, str],
    screen: Screen,
    *,
    embedded: Embedded | None = None,
    reread: Callable[[], tuple[Fleet, Mapping[str, str]]] | None = None,
) -> int:
    # Imported here so that `secondsource --help` and the other verbs start without the gateway.
    from secondsource.cli.up_serve import Serving, serve  # noqa: PLC0415
    from secondsource.console.application import make_console  # noqa: PLC0415
    from secondsource.gateway.service import Service  # noqa: PLC0415
    from secondsource.gateway.workers.coordinator import Coordinator  # noqa: PLC0415

    def make_gateway() -> Service | Coordinator:
        if fleet.workers > 1:
            return Coordinator(fleet, secrets, make_console, screen.say)
        return Service(fleet, secrets, make_console)

    serving = Serving(
        fleet=fleet,
        make_service=make_gateway,
        show=_print_now,
        reread=reread,
        sources=() if embedded is None else embedded.sources,
        ready_within_s=0.0 if embedded is None else embedded.ready_within_s,
        small_model=embedded is not None and embedded.small_model,
    )
    _allow_open_files()
    with _runner() as runner:
        return runner.run(serve(serving, screen))


def _allow_open_files() -> None:
    """Take as many open files as this process may have: most shells give 1024, and every client needs one or two."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _check(arguments: argparse.Namespace, screen: Screen) -> int:
    from rich.console import Console  # noqa: PLC0415

    from secondsource.gateway.probe import check_fleet  # noqa: PLC0415

    fleet = with_flags(load_fleet(arguments.fleet), arguments)
    secrets = load_secrets(fleet, os.environ)
    replicas = sum(len(pool.replicas) for pool in fleet.pools)
    with _runner() as runner, screen.step(f"Asking {replicas} replicas what they can do …"):
        reports = runner.run(check_fleet(fleet, secrets))
    findings = up_check.judge(fleet, reports)
    if arguments.json:
        print(up_check.as_json(str(arguments.fleet), findings, reports))
    else:
        up_check.show(findings, reports, Console())
    return 0 if findings.ok else 1


def _print_now(text: str) -> None:
    print(text, flush=True)  # a pipe's reader gets the addresses now, and not when the service ends


def _runner() -> asyncio.Runner:
    import uvloop  # noqa: PLC0415

    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


@contextlib.contextmanager
def _terminate_like_interrupt() -> Iterator[None]:
    """Make SIGTERM clean up as Ctrl-C does, also while a model is fetched; serving has its own handlers."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
