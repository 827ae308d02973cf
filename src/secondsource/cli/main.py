"""The `secondsource` command: finds the verb and turns errors into exit codes 1 and 2."""

import argparse
import sys
from collections.abc import Sequence

from secondsource import __version__
from secondsource.cli import bench, bill, catalog, key, parity, plan, port, top, up
from secondsource.core.errors import SecondsourceError


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="secondsource", description="One OpenAI-compatible model service over many chip suppliers."
    )
    parser.add_argument("--version", action="version", version=f"secondsource {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    catalog.add(verbs)
    key.add(verbs)
    up.add(verbs)
    top.add(verbs)
    bill.add(verbs)
    bench.add(verbs)
    parity.add(verbs)
    plan.add(verbs)
    port.add(verbs)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; 0 done, 1 the answer is no, 2 the input is wrong, 130 interrupted."""
    arguments = build_parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except SecondsourceError as error:
        print(f"secondsource: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
