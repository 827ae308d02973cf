"""`secondsource plan SPEC.toml`: what to rent, why, and what it would cost to be wrong."""

import argparse
import importlib.util
import os
from pathlib import Path

from secondsource.core.errors import InputError


def add(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb."""
    parser = subparsers.add_parser("plan", help="what to rent: the cheapest mix that survives losing any supplier")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("spec", nargs="?", type=Path, metavar="SPEC.toml", help="what to serve and survive")
    source.add_argument("--from-melange", type=Path, metavar="CASE.json", help="plan a case of Mélange's")
    parser.add_argument("--json", action="store_true", help="the whole plan as JSON on standard output")
    parser.add_argument("--explain", action="store_true", help="why each offer, and what each cap costs")
    parser.add_argument("--risk", type=float, metavar="W", help="plan for futures: weigh the worst fifth of them by W")
    parser.add_argument("--what-if", metavar="'a.b=c'", help="plan again with one key changed, and compare")
    parser.add_argument("--write-fleet", type=Path, metavar="FLEET.toml", help="write the fleet file for `up`")
    parser.add_argument("--plot", type=Path, metavar="PLAN.html", help="draw the plan as one HTML page")
    parser.add_argument("--month", metavar="YYYY-MM", help="the month --write-fleet is for; else the first")
    parser.add_argument(
        "--demand",
        action="append",
        default=[],
        metavar="LANE=FACTOR",
        help="plan for this many times the SPEC's demand of a lane; may be given again",
    )
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="keep the plan in this state directory, for the console"
    )
    parser.add_argument("--seconds", type=float, help="search for so long at most; else as the SPEC says")
    parser.set_defaults(run=run)


def require_solver() -> None:
    """Raise InputError where the extra that plans is not installed."""
    if importlib.util.find_spec("highspy") is None:
        raise InputError("planning needs the solver: pip install 'secondsource[plan]', or use requirements/serve.lock")


def multiply_on_one_thread() -> None:
    """Keep numpy's products on one thread; to be called before numpy is loaded, which reads this once.

    The search multiplies many small matrices beside the solver's own threads: on two processors `bench plan`'s plan of
    $12M took 31 s where each product asked for both, and 22 s where none did.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def run(arguments: argparse.Namespace) -> int:
    """Run the verb; the solver is loaded only now, so that other verbs start without it."""
    require_solver()
    multiply_on_one_thread()
    from secondsource.cli import plan_run  # noqa: PLC0415 -- see above

    return plan_run.run(arguments)
