"""`secondsource bench`: ours beside its peers, in one run."""

import argparse
from pathlib import Path

from secondsource.cli.plan import multiply_on_one_thread, require_solver


def add(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb and its benches to the command line."""
    parser = subparsers.add_parser("bench", help="measure beside peers, in one run")
    benches = parser.add_subparsers(dest="bench", required=True, metavar="BENCH")
    plan = benches.add_parser("plan", help="the planner: cost and gap beside Mélange's formulation, and scaling")
    plan.add_argument("--cases", type=int, default=40, help="how many cases of Mélange's kind")
    plan.add_argument("--seconds", type=float, default=30.0, help="the most seconds for one plan")
    plan.add_argument("--skip-futures", action="store_true", help="leave out the plans over futures")
    plan.add_argument("--write", type=Path, metavar="PAGE.md", help="put the result into its section of this page")
    plan.add_argument("--json", action="store_true", help="the table as JSON on standard output")
    plan.set_defaults(run=_run_plan)
    _add_gateway(benches)
    _add_engine(benches)


def _add_gateway(benches: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    gateway = benches.add_parser(
        "gateway",
        help="the gateway beside vllm-router, sglang-router, LiteLLM and nginx, one core each",
        description="Put the gateway, with keys, ledger, metrics and log on, beside its peers: the same fake "
        "replica, the same load, one core each, rounds interleaved. Needs two cores, wrk, taskset, a C compiler "
        "and, for its row, nginx; the others are installed, pinned, into the user's cache directory.",
    )
    only = "this gateway, or this row, alone; may be given again (a wrong name is told the right ones)"
    gateway.add_argument("--only", action="append", default=[], metavar="NAME", help=only)
    gateway.add_argument("--rounds", type=int, default=3, help="how often each row is measured (3); medians are shown")
    gateway.add_argument("--minutes", type=float, help="instead: load our gateway so long, and show its memory")
    gateway.add_argument("--write", type=Path, metavar="PAGE.md", help="put the result into its section of this page")
    gateway.add_argument("--keep", type=Path, metavar="FILE", help="keep what is measured here, and go on from there")
    lock = "lock this file while a row is measured, so that who shares the machine can keep out; may be given again"
    gateway.add_argument("--lock", type=Path, action="append", default=[], metavar="FILE", help=lock)
    gateway.add_argument("--json", action="store_true", help="the result as JSON on standard output")
    gateway.set_defaults(run=_run_gateway)


def _add_engine(benches: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    engine = benches.add_parser(
        "engine",
        help="our engine's decode rate beside llama.cpp's, at 1 and 8 streams",
        description="Both engines serve one model on this machine, and are asked in turn, round after round. Exit 1 "
        "where ours has less than half of llama.cpp's rate.",
    )
    engine.add_argument("--model", type=Path, metavar="PATH.gguf", help="the model (default: the embedded default's)")
    engine.add_argument("--rounds", type=int, default=3, help="how often each row is measured (3); medians are shown")
    engine.add_argument("--tokens", type=int, default=64, help="tokens of each stream (64)")
    engine.add_argument("--threads", type=int, help="threads of each engine (default: all cores)")
    engine.add_argument("--write", type=Path, metavar="PAGE.md", help="put the result into its section of this page")
    engine.add_argument("--json", action="store_true", help="the result as JSON on standard output")
    engine.set_defaults(run=_run_engine)


def _run_plan(arguments: argparse.Namespace) -> int:
    # The solver is heavy, and an extra: the other verbs start without it.
    require_solver()
    multiply_on_one_thread()
    from secondsource.cli.bench_plan import run  # noqa: PLC0415

    return run(arguments)


def _run_gateway(arguments: argparse.Namespace) -> int:
    from secondsource.cli.bench_gateway import run  # noqa: PLC0415

    return run(arguments)


def _run_engine(arguments: argparse.Namespace) -> int:
    from secondsource.cli.bench_engine import run  # noqa: PLC0415

    return run(arguments)
