"""`secondsource bench plan`: cost, gap and seconds beside Mélange's formulation, and scaling."""

import argparse
import time
from collections.abc import Iterator

import msgspec
from rich.console import Console
from rich.table import Table

from secondsource.cli.plan_progress import Progress
from secondsource.planner.bench_cases import melange_case, scale_futures, scale_problem
from secondsource.planner.checker import check_plan
from secondsource.planner.dominance import drop_dominated
from secondsource.planner.melange import Case, answer, case_problem
from secondsource.planner.melange_ilp import solve_as_melange
from secondsource.planner.model import build_model
from secondsource.planner.plan import read_plan
from secondsource.planner.planning import plan_problem
from secondsource.planner.problem import Record
from secondsource.planner.scenarios import Stakes, build_for_futures
from secondsource.planner.search import Target, search
from secondsource.planner.solve import Effort

_SCALES = ((100, 12, 1.0), (300, 12, 1.0), (300, 24, 1.0), (300, 24, 0.1), (300, 24, 0.01))
_FUTURES = (5, 20)
_LOST_NANO_USD = 2_000_000  # $2 per thousand requests


class Beside(Record, frozen=True, kw_only=True):
    """One case of Mélange's kind, by its formulation and by ours."""

    seed: int
    melange_usd_per_hour: float
    melange_seconds: float
    usd_per_hour: float
    gap: float
    seconds: float


class Scale(Record, frozen=True, kw_only=True):
    """One plan of a stated scale. `sound` says that the checker found nothing; no cost, that time ran out first."""

    offers: int
    months: int
    futures: int
    usd: float | None
    gap: float | None
    seconds: float
    sound: bool | None


def run(arguments: argparse.Namespace) -> int:
    """Run the benchmark and print its table."""
    with Progress() as progress:
        cases = []
        for seed in range(arguments.cases):
            progress.say(f"case {seed + 1} of {arguments.cases}")
            cases.append(_beside(seed, melange_case(seed), arguments.seconds))
        scales = list(_scales(arguments.seconds, not arguments.skip_futures, progress))
    if arguments.json:
        print(msgspec.json.encode({"melange": cases, "scale": scales}).decode())
        return 0
    _show(Console(), cases, scales)
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


def _show(console: Console, cases: list[Beside], scales: list[Scale]) -> None:
    cheaper = [case for case in cases if case.usd_per_hour < case.melange_usd_per_hour * (1 - 1e-6)]
    dearer = [case for case in cases if case.usd_per_hour > case.melange_usd_per_hour * (1 + 1e-6)]
    ratios = sorted(case.usd_per_hour / case.melange_usd_per_hour for case in cases)
    console.print(
        f"beside Mélange's formulation on {len(cases)} cases: cheaper in {len(cheaper)}, dearer in {len(dearer)}; "
        f"cost ratio median {ratios[len(ratios) // 2]:.4f}, least {ratios[0]:.4f}; seconds "
        f"{sum(case.seconds for case in cases):.2f} beside {sum(case.melange_seconds for case in cases):.2f}; "
        f"largest gap {max(case.gap for case in cases):.4%}"
    )
    table = Table(title="scale: 10 classes, 6 suppliers each of whom may be lost", title_justify="left")
    for name in ("offers", "months", "futures", "cost", "gap", "seconds", "checker"):
        table.add_column(name, justify="right")
    for row in scales:
        table.add_row(
            f"{row.offers}",
            f"{row.months}",
            f"{row.futures}",
            "none in time" if row.usd is None else f"${row.usd / 1e6:,.1f}M",
            "" if row.gap is None else f"{row.gap:.2%}",
            f"{row.seconds:.1f}",
            {True: "sound", False: "FAILS", None: ""}[row.sound],
        )
    console.print(table)
