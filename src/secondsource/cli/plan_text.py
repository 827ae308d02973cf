"""The plan as tables for people."""

from collections import defaultdict
from decimal import Decimal

from rich.console import Console
from rich.table import Table

from secondsource.planner.explain import Explanation
from secondsource.planner.report import Report
from secondsource.planner.scenarios import Outlook

_MOST_STARTS = 40


def show_report(console: Console, report: Report) -> None:
    """Print the plan: cost, what to start, where traffic goes, what binds, how it fares."""
    _summary(console, report)
    _starts(console, report)
    _spend(console, report)
    _routes(console, report)
    _binding(console, report)
    if report.explanation is not None:
        _explanation(console, report.explanation)
        _rates(console, report)
    if report.outlook is not None:
        _outlook(console, report.outlook)
    for warning in report.warnings:
        console.print(f"warning: {warning}", markup=False)


def _summary(console: Console, report: Report) -> None:
    years = len(report.months) / 12
    console.print(f"[bold]{report.name}[/bold]: {report.months[0]} to {report.months[-1]}", highlight=False)
    console.print(
        f"costs {usd(report.total_usd)}: rent {usd(report.rent_usd)} ({usd(report.rent_usd / Decimal(years))} a year), "
        f"{usd(report.counted_after_horizon_usd)} counted of the {usd(report.owed_after_horizon_usd)} owed afterwards, "
        f"shortfall {usd(report.shortfall_usd)}"
    )
    parts = []
    if report.usd_per_million_tokens is not None:
        parts.append(f"${report.usd_per_million_tokens:,.4f} per million tokens")
    if report.usd_per_1000_images is not None:
        parts.append(f"${report.usd_per_1000_images:,.4f} per thousand images")
    console.print("; ".join(parts))
    if report.objective_usd == report.total_usd:
        proven = f"no plan costs less than {usd(report.bound_usd)}, and this one {usd(report.total_usd)}"
    else:
        proven = (
            f"no plan has less expected cost and risk over the futures than {usd(report.bound_usd)}, "
            f"and this one {usd(report.objective_usd)}"
        )
    console.print(f"proven: {proven}; gap {report.gap:.2%}; checked; {report.seconds:.1f} s")


def _starts(console: Console, report: Report) -> None:
    table = Table(title="start", title_justify="left")
    for name in ("month", "offer", "term", "units", "chips", "$/chip-h"):
        table.add_column(name, justify="right" if name in {"units", "chips", "$/chip-h"} else "left")
    for line in report.starts[:_MOST_STARTS]:
        term = f"{line.term_months} months" if line.term_months else "by the month"
        price = f"{line.usd_per_chip_hour:.3f}"
        table.add_row(line.month, line.offer, term, f"{line.units:,}", f"{line.chips:,}", price)
    console.print(table)
    if len(report.starts) > _MOST_STARTS:
        console.print(f"... and {len(report.starts) - _MOST_STARTS} more; --json has them all")


def _spend(console: Console, report: Report) -> None:
    for title, spent in (("supplier", report.usd_by_supplier), ("chip", report.usd_by_chip)):
        table = Table(title=f"rent by {title}", title_justify="left")
        table.add_column(title)
        table.add_column("rent", justify="right")
        table.add_column("share", justify="right")
        for name, amount in sorted(spent.items(), key=lambda item: -item[1]):
            share = amount / report.rent_usd if report.rent_usd else Decimal(0)
            table.add_row(name, usd(amount), f"{share:.1%}")
        console.print(table)


def _routes(console: Console, report: Report) -> None:
    """Show one month's routes: the last, the busiest of a growing service."""
    month = report.months[-1]
    cases = {"normal", *(f"supplier {name}" for name in report.usd_by_supplier)}
    shares: dict[tuple[str, str], dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for line in report.routes:
        shown = line.case in cases or line.case.startswith("vendor ")
        if line.month == month and line.share > 5e-4 and shown:
            shares[f"{line.lane}/{line.size_class}", line.case][line.pool] += line.share
    table = Table(title=f"where traffic goes in {month}", title_justify="left")
    for name in ("lane/class", "case", "pools"):
        table.add_column(name)
    for (what, case), pools in sorted(shares.items(), key=lambda item: (item[0][0], item[0][1] != "normal")):
        ranked = sorted(pools.items(), key=lambda item: -item[1])
        text = ", ".join(f"{pool} {share:.0%}" for pool, share in ranked[:4])
        table.add_row(what, "normal" if case == "normal" else f"without {case}", text)
    console.print(table)


def _binding(console: Console, report: Report) -> None:
    if not report.binding:
        return
    table = Table(title="what binds, and its price at the margin", title_justify="left")
    for name in ("statement", "saves a year", "for each"):
        table.add_column(name, justify="right" if name == "saves a year" else "left")
    for line in report.binding[:20]:
        amount = f"${line.usd_per_year:,.2f}" if line.usd_per_year < 100 else f"${line.usd_per_year:,.0f}"
        table.add_row(line.words, amount, line.per)
    console.print(table)


def _explanation(console: Console, explanation: Explanation) -> None:
    console.print("[bold]what each statement costs as a whole[/bold]")
    for item in explanation.statements:
        amount = f"{usd(item.usd_per_year or 0)} a year" if (item.usd_per_year or 0) >= 1 else "nothing"
        console.print(f"  {item.words or item.what}: {amount}", markup=False)
    console.print("[bold]what each supplier is worth[/bold]")
    for item in explanation.suppliers:
        text = (
            "no plan exists without it"
            if item.usd_per_year is None
            else f"{usd(item.usd_per_year)} a year dearer without it"
        )
        console.print(f"  {item.what}: {text}", markup=False)
    console.print("[bold]why each offer[/bold]")
    for reason in explanation.offers:
        if reason.usd_per_year_without is None:
            text = "no plan exists without it"
        else:
            text = f"{usd(reason.usd_per_year_without)} a year dearer without it"
        instead = f"; instead: {', '.join(reason.instead)}" if reason.instead else ""
        console.print(f"  {reason.offer} (rent {usd(reason.rent_usd)}): {text}{instead}", markup=False)


def _rates(console: Console, report: Report) -> None:
    """Say what each rate stands on; pools of one chip whose rates are alike share a line."""
    table = Table(title="what the rates stand on", title_justify="left")
    for name in ("pool", "lane/class", "requests/s a unit", "evidence", "median error", "taken off"):
        table.add_column(name, justify="left" if name in {"pool", "lane/class", "evidence"} else "right")
    alike: dict[tuple[str, str, str, float, float], list[tuple[str, float]]] = defaultdict(list)
    for line in report.rates:
        chip = line.pool.partition("/")[2]
        key = (chip, f"{line.lane}/{line.size_class}", line.evidence, line.error, line.taken_off)
        alike[key].append((line.pool, line.requests_per_s))
    for (chip, what, evidence, error, off), pools in alike.items():
        least, most = min(rate for _, rate in pools), max(rate for _, rate in pools)
        rates = f"{least:.4g}" if f"{least:.4g}" == f"{most:.4g}" else f"{least:.4g} to {most:.4g}"
        table.add_row(pools[0][0] if len(pools) == 1 else chip, what, rates, evidence, f"{error:.0%}", f"{off:.0%}")
    console.print(table)
    console.print("a profile counts as 1 / (1 + caution x error) of its rate; set caution in [plan]", markup=False)


def _outlook(console: Console, outlook: Outlook) -> None:
    table = Table(title=f"over {outlook.futures} futures it was not made for", title_justify="left")
    for name in ("plan", "mean cost", "worst fifth", "missed", "missed at worst"):
        table.add_column(name, justify="left" if name == "plan" else "right")
    for trial in outlook.trials:
        table.add_row(
            trial.plan,
            usd(trial.mean_usd),
            usd(trial.worst_fifth_usd),
            f"{trial.mean_missed:.2%}",
            f"{trial.worst_missed:.2%}",
        )
    console.print(table)


def usd(amount: Decimal | float) -> str:
    """Return dollars for people, in millions or billions where that reads better."""
    value = float(amount)
    for size, unit in ((1e9, "B"), (1e6, "M")):
        if abs(value) >= size:
            return f"${value / size:,.3f}{unit}"
    return f"${round(value) or 0:,}"
