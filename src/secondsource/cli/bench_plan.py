"""`secondsource bench plan`: cost, gap and seconds beside Mélange's formulation, and scaling."""

import argparse
import shlex
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec
from rich.console import Console
from rich.table import Table

from secondsource.benchmarking.machine import describe_machine
from secondsource.benchmarking.markdown import NEW_PAGE, Setting, replace_section
from secondsource.benchmarking.plans import (
    SCALE_HEADS,
    Beside,
    Scale,
    beside_in_words,
    judge_plans,
    plans_section,
    scale_cells,
)
from secondsource.cli.plan_progress import Progress
from secondsource.planner.bench_cases import melange_case, scale_futures, scale_problem
from secondsource.planner.checker import check_plan
from secondsource.planner.dominance import drop_dominated
from secondsource.planner.melange import Case, answer, case_problem
from secondsource.planner.melange_ilp import solve_as_melange
from secondsource.planner.model import build_model
from secondsource.planner.plan import read_plan
from secondsource.planner.planning import plan_problem
from secondsource.planner.scenarios import Stakes, build_for_futures
from secondsource.planner.search import Target, search
from secondsource.planner.solve import Effort

_SCALES = ((100, 12, 1.0), (300, 12, 1.0), (300, 24, 1.0), (300, 24, 0.1), (300, 24, 0.01))
_FUTURES = (5, 20)
_LOST_NANO_USD = 2_000_000  # $2 per thousand requests


def run(arguments: argparse.Namespace) -> int:
    """Run the benchmark and print its table."""
    with Progress() as progress:
        cases = []
        for seed in range(arguments.cases):
            progress.say(f"case {seed + 1} of {arguments.cases}")
            cases.append(_beside(seed, melange_case(seed), arguments.seconds))
        scales = list(_scales(arguments.seconds, not arguments.skip_futures, progress))
    _tell(arguments, cases, scales)
    return 0


def _beside(seed: int, case: Case, seconds: float) -> Beside:
    began = time.monotonic()
    theirs = solve_as_melange(case, Effort(seconds=seconds, gap=0.0))
    between = time.monotonic()
    ours = answer(case, plan_problem(case_problem(case), Target(gap=0.0, seconds=seconds), {}).plan)
    return Beside(
        seed=seed,
        melange_usd_per_hour=round(theirs.objective, 6),
        melange_seconds=round(between - began, 3),
        usd_per_hour=round(ours.usd_per_hour, 6),
        gap=ours.gap,
        seconds=round(time.monotonic() - between, 3),
    )


def _scales(seconds: float, futures: bool, progress: Progress) -> Iterator[Scale]:
    for offers, months, size in _SCALES:
        progress.say(f"{offers} offers x {months} months, size {size:g}")
        yield _scale(offers, months, size, 0, seconds)
    for count in _FUTURES if futures else ():
        progress.say(f"300 offers x 24 months x {count} futures")
        yield _scale(300, 24, 1.0, count, 10 * seconds)


def _scale(offers: int, months: int, size: float, futures: int, seconds: float) -> Scale:
    began = time.monotonic()
    problem = drop_dominated(scale_problem(offers, months, size=size))
    if futures:
        prices = tuple(_LOST_NANO_USD for _ in problem.demands)
        drawn = scale_futures(problem, futures)
        model = build_for_futures(problem, Stakes(futures=drawn, shortfall_nano_usd=prices, risk=0.5))
    else:
        model = build_model(problem)
    found = search(model, Target(seconds=seconds))
    if found is None or not found.point:
        took = round(time.monotonic() - began, 2)
        return Scale(offers=offers, months=months, futures=futures, usd=None, gap=None, seconds=took, sound=None)
    plan = read_plan(problem, model, found, over_futures=futures > 0)
    return Scale(
        offers=offers,
        months=months,
        futures=futures,
        usd=round(plan.total / 1e9, 2),
        gap=plan.gap,
        seconds=round(time.monotonic() - began, 2),
        sound=not check_plan(problem, plan),
    )


def _tell(arguments: argparse.Namespace, cases: list[Beside], scales: list[Scale]) -> None:
    setting = _setting(arguments)
    if arguments.write is not None:
        page = arguments.write.read_text("utf-8") if arguments.write.exists() else NEW_PAGE
        section = plans_section(cases, scales, setting)
        arguments.write.write_text(replace_section(page, "bench plan", section), "utf-8")
    if arguments.json:
        verdicts = judge_plans(cases, scales)
        document = {"setting": setting, "melange": cases, "scale": scales, "aims": verdicts}
        print(msgspec.json.encode(document).decode())
        return
    console = Console()
    if cases:
        console.print(beside_in_words(cases))
    table = Table(title="scale: 10 classes, 6 suppliers each of whom may be lost", title_justify="left")
    for name in SCALE_HEADS:
        table.add_column(name, justify="right")
    for row in scales:
        table.add_row(*scale_cells(row))
    console.print(table)


def _setting(arguments: argparse.Namespace) -> Setting:
    words = ["secondsource", "bench", "plan", "--cases", str(arguments.cases), "--seconds", f"{arguments.seconds:g}"]
    if arguments.skip_futures:
        words.append("--skip-futures")
    if arguments.write is not None:
        words += ["--write", str(arguments.write)]
    return Setting(date=f"{datetime.now(UTC):%Y-%m-%d}", machine=describe_machine(), command=shlex.join(words))
