"""`secondsource bench`: ours beside its peers, in one run."""

import argparse

from secondsource.cli.plan import require_solver


def add(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb and its benches to the command line."""
    parser = subparsers.add_parser("bench", help="measure beside peers, in one run")
    benches = parser.add_subparsers(dest="bench", required=True, metavar="BENCH")
    plan = benches.add_parser("plan", help="the planner: cost and gap beside Mélange's formulation, and scaling")
    plan.add_argument("--cases", type=int, default=40, help="how many cases of Mélange's kind")
    plan.add_argument("--seconds", type=float, default=30.0, help="the most seconds for one plan")
    plan.add_argument("--skip-futures", action="store_true", help="leave out the plans over futures")
    plan.add_argument("--json", action="store_true", help="the table as JSON on standard output")
    plan.set_defaults(run=_run_plan)


def _run_plan(arguments: argparse.Namespace) -> int:
    # The solver is heavy, and an extra: the other verbs start without it.
    require_solver()
    from secondsource.cli.bench_plan import run  # noqa: PLC0415

    return run(arguments)
