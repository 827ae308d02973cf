"""`secondsource top`: the console's page Now in a terminal."""

import argparse
import os
import sys
import time

from secondsource.core.errors import InputError
from secondsource.core.fleet import AdminListener, Fleet

KEY_VARIABLE = "SECONDSOURCE_ADMIN_KEY"
AGAIN_S = 1.0
_DEFAULT: AdminListener = Fleet(suppliers=(), pools=()).admin


def add(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb."""
    parser = subparsers.add_parser(
        "top",
        help="what flows where now, in a terminal",
        description="Watch a gateway that runs: lanes, pools, suppliers, chips and incidents, once a second. "
        f"The admin listener's key, where it has one, is read from {KEY_VARIABLE}. Ctrl-C ends it.",
    )
    parser.add_argument(
        "--url", default=f"http://{_DEFAULT.host}:{_DEFAULT.port}", help="of the admin listener; default: %(default)s"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--once", action="store_true", help="print it once and end")
    form.add_argument("--json", action="store_true", help="print it once as JSON and end")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Show, once or until Ctrl-C; raises InputError where nothing answers at first."""
    # Imported here so that `secondsource --help` and the other verbs start without it.
    from secondsource.cli.top_source import Source, read_now  # noqa: PLC0415

    source = Source(arguments.url, os.environ.get(KEY_VARIABLE))
    if arguments.json:
        sys.stdout.buffer.write(source.once() + b"\n")
        return 0
    from rich.console import Console  # noqa: PLC0415
    from rich.live import Live  # noqa: PLC0415

    from secondsource.cli import top_text  # noqa: PLC0415

    console = Console()
    now = read_now(source.once())
    if arguments.once or not console.is_terminal:
        console.print(top_text.screen(now, arguments.url))
        return 0
    with Live(top_text.screen(now, arguments.url), console=console, screen=True, auto_refresh=False) as live:
        while True:
            try:
                for data in source.events():
                    now = read_now(data)
                    live.update(top_text.screen(now, arguments.url), refresh=True)
            except InputError as error:
                live.update(top_text.screen(now, arguments.url, problem=str(error)), refresh=True)
            time.sleep(AGAIN_S)
