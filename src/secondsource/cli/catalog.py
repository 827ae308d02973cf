"""`secondsource catalog list|show|refresh`: what can be rented, at which price, of which day."""

import argparse
from datetime import date
from pathlib import Path

import platformdirs


def add(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb and its three actions."""
    parser = subparsers.add_parser("catalog", help="what can be rented: chips and offers, dated and sourced")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_list(actions)
    show = actions.add_parser("show", help="a chip's figures, or an offer with its source")
    show.add_argument("name", help="a chip (h100-sxm) or an offer (azure/eastus/h100-sxm/8/on-demand)")
    renew = actions.add_parser("refresh", help="read SkyPilot's public catalogue")
    renew.add_argument("--from", dest="source", type=Path, metavar="DIR", help="a copy: DIR/<supplier>/vms.csv")
    renew.add_argument("--as-of", type=_day, metavar="DATE", help="the day of the copy's prices, as 2026-05-20")
    renew.add_argument("--supplier", action="append", help="only this one; may be given several times")
    renew.add_argument("--url", help="where <supplier>/vms.csv is; SkyPilot's repository if not given")
    renew.add_argument("--history-url", help="where the date of a file is")
    _add_common(show)
    _add_common(renew)
    show.set_defaults(run=_show)
    renew.set_defaults(run=_refresh)


def _add_list(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = actions.add_parser("list", help="the offers, or with --chips the chips")
    parser.add_argument("--chips", action="store_true", help="list chips instead of offers")
    parser.add_argument("--chip", action="append", default=[], help="only this chip; may be given several times")
    parser.add_argument("--supplier", action="append", default=[], help="only this supplier; may be repeated")
    parser.add_argument("--region", action="append", default=[], help="only this region; may be repeated")
    parser.add_argument("--terms", action="append", default=[], help="on-demand, spot, 12-months or 36-months")
    _add_common(parser)
    parser.set_defaults(run=_list)


def _add_common(parser: argparse.ArgumentParser) -> None:
    default = Path(platformdirs.user_data_dir("secondsource")) / "catalog"
    where = f"where refreshed prices are; {str(default).replace('%', '%%')} if not given"
    parser.add_argument("--catalog", type=Path, default=default, metavar="DIR", help=where)
    parser.add_argument("--stale-after", type=int, metavar="DAYS", help="warn beyond this age; 180 if not given")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f'expected a day as 2026-05-20, got "{text}"') from None


def _list(arguments: argparse.Namespace) -> int:
    from secondsource.cli.catalog_run import run_list  # noqa: PLC0415 -- here, so that `--help` starts fast

    return run_list(arguments)


def _show(arguments: argparse.Namespace) -> int:
    from secondsource.cli.catalog_run import run_show  # noqa: PLC0415

    return run_show(arguments)


def _refresh(arguments: argparse.Namespace) -> int:
    from secondsource.cli.catalog_run import run_refresh  # noqa: PLC0415

    return run_refresh(arguments)
