"""What `secondsource plan` does once its arguments are read."""

import argparse
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import msgspec
from rich.console import Console

from secondsource.catalog.load import load_catalog
from secondsource.catalog.records import STALE_AFTER_DAYS, Catalog
from secondsource.cli import plan_page, plan_text
from secondsource.cli.plan_progress import Progress
from secondsource.core.errors import InputError
from secondsource.planner import melange
from secondsource.planner.explain import explain
from secondsource.planner.fleet_text import fleet_text
from secondsource.planner.kept import keep, with_demand
from secondsource.planner.known_names import refuse_later_prices
from secondsource.planner.learn import learn
from secondsource.planner.outlook import look_ahead
from secondsource.planner.planning import Inputs, Planned, make_plan, plan_problem
from secondsource.planner.rates import profile_rates
from secondsource.planner.report import Report, make_report
from secondsource.planner.search import Target
from secondsource.planner.spec import Spec
from secondsource.planner.spec_file import parse_spec, read_text
from secondsource.planner.what_if import change
from secondsource.profiles.compiled import stored_corrections

MELANGE_SECONDS = 60.0
MOST_TIMES = 1000.0
PIPED_WIDTH = 160  # a pipe has no width of its own


def run(arguments: argparse.Namespace) -> int:
    """Plan, print, and write what was asked for; 0 unless an error is raised."""
    with Progress() as progress:
        if arguments.from_melange is not None:
            return _melange(arguments, progress)
        text = read_text(arguments.spec)
        report, spec, planned = _plan(arguments, arguments.spec, text, progress)
        changed = None
        if arguments.what_if:
            progress.say(f"planning again with {arguments.what_if}")
            other = change(text, arguments.what_if)
            changed, spec, planned = _plan(arguments, arguments.spec, other, progress)
    _print(arguments, report, changed)
    if arguments.write_fleet:
        month = arguments.month or planned.plan.months[0]
        arguments.write_fleet.write_text(fleet_text(spec, planned, month), "utf-8")
    if arguments.plot:
        arguments.plot.write_text(plan_page.page(changed or report, planned.problem), "utf-8")
    if arguments.keep:
        keep(arguments.keep, arguments.spec, changed or report)
    return 0


def _plan(arguments: argparse.Namespace, path: Path, text: str, progress: Progress) -> tuple[Report, Spec, Planned]:
    spec = parse_spec(text, str(path), path.parent)
    if arguments.seconds is not None:
        spec = msgspec.structs.replace(spec, seconds=arguments.seconds)
    spec = with_demand(spec, _factors(arguments.demand))
    today = datetime.now(UTC).date()
    refuse_later_prices(spec, today)
    catalog = load_catalog(spec.catalog.directory, today).with_chips(spec.chips)
    for workload in spec.workloads:
        progress.say(f"learning {workload.name} from {workload.trace.name}")
    learnt = {workload.name: learn(workload) for workload in spec.workloads}
    inputs = Inputs(catalog=catalog, rate_of=profile_rates(catalog, stored_corrections()), learnt=learnt)
    planned = make_plan(spec, inputs, progress.say)
    if arguments.risk is not None and arguments.risk < 0:
        raise InputError("--risk: expected a weight of 0 or more")
    planned, outlook = look_ahead(spec, planned, arguments.risk, progress.say)
    explanation = None
    if arguments.explain or arguments.plot:
        explanation = explain(planned.problem, planned.model, planned.found, planned.plan, say=progress.say)
    return make_report(spec, planned, explanation, outlook, _warnings(spec, planned, catalog, today)), spec, planned


def _factors(given: list[str]) -> dict[str, float]:
    factors = {}
    for text in given:
        lane, equals, factor = text.partition("=")
        try:
            factors[lane] = float(factor)
        except ValueError:
            equals = ""
        if not equals or not 0 < factors[lane] <= MOST_TIMES:
            raise InputError(f"--demand {text!r}: expected a lane and a factor up to {MOST_TIMES:g}, such as paid=1.5")
    return factors


def _warnings(spec: Spec, planned: Planned, catalog: Catalog, today: date) -> tuple[str, ...]:
    """Return a warning about the prices the plan stands on that are old."""
    used = {start.offer for start in planned.plan.starts}
    own = {offer.name: (today - offer.as_of).days for offer in spec.offers}
    listed = {offer.name: offer.age_days(today) for offer in catalog.stale(today)}
    ages = {name: days for name, days in (listed | own).items() if name in used and days > STALE_AFTER_DAYS}
    if not ages:
        return ()
    oldest = max(ages, key=lambda name: ages[name])
    newer = (
        "ask for today's, and put it into the SPEC"
        if oldest in own
        else "`secondsource catalog refresh` may have newer ones"
    )
    return (
        f"{len(ages)} of the prices it stands on are more than {STALE_AFTER_DAYS} days old, the oldest "
        f"{ages[oldest]} ({oldest}); {newer}",
    )


def _print(arguments: argparse.Namespace, report: Report, changed: Report | None) -> None:
    if arguments.json:
        whole = report if changed is None else {"before": report, "after": changed}
        sys.stdout.write(msgspec.json.Encoder(decimal_format="number").encode(whole).decode() + "\n")
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=PIPED_WIDTH)
    if changed is None:
        plan_text.show_report(console, report)
        return
    plan_text.show_report(console, changed)
    before, after = report.total_usd, changed.total_usd
    console.print(
        f"[bold]what if {arguments.what_if}[/bold]: {plan_text.usd(before)} becomes {plan_text.usd(after)}, "
        f"{'+' if after >= before else '-'}{plan_text.usd(abs(after - before))}"
    )
    for name in sorted({*report.usd_by_supplier, *changed.usd_by_supplier}):
        was, now = report.usd_by_supplier.get(name, 0), changed.usd_by_supplier.get(name, 0)
        console.print(f"  {name}: {plan_text.usd(was)} becomes {plan_text.usd(now)}")


def _melange(arguments: argparse.Namespace, progress: Progress) -> int:
    case = melange.load_case(arguments.from_melange)
    problem = melange.case_problem(case)
    seconds = MELANGE_SECONDS if arguments.seconds is None else arguments.seconds
    target = Target(gap=0.0, seconds=seconds, progress=progress.say)
    answer = melange.answer(case, plan_problem(problem, target, {}).plan)
    if arguments.json:
        sys.stdout.write(msgspec.json.encode(answer).decode() + "\n")
        return 0
    for name, count in answer.units.items():
        print(f"{name}: {count}")
    print(f"${answer.usd_per_hour:,.4f} an hour; gap {answer.gap:.2%}")
    return 0
