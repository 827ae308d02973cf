"""The plan drawn as one HTML page: chips against demand, spend by supplier, the cost of each cap.

Plain SVG with the data's own numbers in it; no script, nothing fetched.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from html import escape

from secondsource.cli.plan_text import usd
from secondsource.planner.problem import Problem
from secondsource.planner.report import Report
from secondsource.planner.variables import NORMAL

_COLOURS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#a463f2", "#97bbf5", "#9c6b4e", "#9498a0")
_STYLE = (
    ":root{color-scheme:light dark;--ink:#222;--paper:#fff;--rule:#ddd}"
    "@media(prefers-color-scheme:dark){:root{--ink:#ddd;--paper:#161616;--rule:#3a3a3a}}"
    "body{font:15px/1.5 system-ui,sans-serif;max-width:900px;margin:2em auto;padding:0 1em;"
    "color:var(--ink);background:var(--paper)}"
    "svg{width:100%}svg text{fill:var(--ink)}table{border-collapse:collapse;width:100%}"
    "td{padding:.25em .5em;border-top:1px solid var(--rule)}td+td{text-align:right;white-space:nowrap}"
)
_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 860, 300, 80, 40


def page(report: Report, problem: Problem) -> str:
    """Return the page."""
    parts = [
        _stack(
            "Chips in service by chip; line: chips busy in the normal case",
            report.months,
            *_chips(report, problem),
            lambda value: f"{value:,.0f}",
        ),
        _stack("Rent by supplier, dollars a month", report.months, _spend(report, problem), None, usd),
        _caps(report),
    ]
    head = (
        f"<h1>{escape(report.name)}</h1><p>{report.months[0]} to {report.months[-1]}: {usd(report.total_usd)}; "
        f"proven within {report.gap:.2%}.</p>"
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(report.name)}</title>'
        f'<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
        f"<style>{_STYLE}</style></head><body>{head}{''.join(parts)}</body></html>\n"
    )


def _chips(report: Report, problem: Problem) -> tuple[dict[str, list[float]], list[float]]:
    sizes = {rental.pool: rental.chips_per_unit for rental in problem.rentals}
    numbers = {(demand.lane, demand.size_class): d for d, demand in enumerate(problem.demands)}
    chips: dict[str, list[float]] = defaultdict(lambda: [0.0] * len(report.months))
    for line in report.pools:
        for month, units in enumerate(line.units):
            chips[line.chip][month] += units * sizes[line.pool]
    busy = [0.0] * len(report.months)
    for route in report.routes:
        if route.case == NORMAL:
            rate = problem.rates[route.pool][numbers[route.lane, route.size_class]]
            busy[report.months.index(route.month)] += route.requests_per_s / rate * sizes[route.pool]
    return dict(chips), busy


def _spend(report: Report, problem: Problem) -> dict[str, list[float]]:
    """Return rent by supplier and month; a pool's units are charged at its offers' mean price."""
    prices: dict[str, list[float]] = defaultdict(list)
    started = {line.offer for line in report.starts}
    for rental in problem.rentals:
        if rental.key in started or rental.held:
            prices[rental.pool].append(rental.nano_usd_per_unit_hour / 1e9)
    spend: dict[str, list[float]] = defaultdict(lambda: [0.0] * len(report.months))
    for line in report.pools:
        price = sum(prices[line.pool]) / max(1, len(prices[line.pool]))
        for month, units in enumerate(line.units):
            spend[line.supplier][month] += units * price * problem.hours[month]
    return dict(spend)


def _stack(
    title: str,
    months: Sequence[str],
    layers: Mapping[str, Sequence[float]],
    line: Sequence[float] | None,
    worded: Callable[[float], str],
) -> str:
    totals = [sum(values[month] for values in layers.values()) for month in range(len(months))]
    top = max([*totals, *(line or ()), 1e-9])
    step = (_WIDTH - _LEFT) / len(months)

    def y(value: float) -> float:
        return (_HEIGHT - _BOTTOM) * (1 - value / top) + 5

    shapes = [f'<text x="0" y="14">{escape(worded(top))}</text><text x="0" y="{y(0):.0f}">0</text>']
    heights = [0.0] * len(months)
    for number, (name, values) in enumerate(sorted(layers.items())):
        colour = _COLOURS[number % len(_COLOURS)]
        for month, value in enumerate(values):
            if value > 0:
                base = heights[month]
                heights[month] += value
                shapes.append(
                    f'<rect x="{_LEFT + month * step:.1f}" width="{step * 0.85:.1f}" y="{y(base + value):.1f}" '
                    f'height="{y(base) - y(base + value):.1f}" fill="{colour}">'
                    f"<title>{escape(name)}, {months[month]}: {escape(worded(value))}</title></rect>"
                )
    if line:
        points = " ".join(f"{_LEFT + (m + 0.42) * step:.1f},{y(v):.1f}" for m, v in enumerate(line))
        shapes.append(f'<polyline points="{points}" fill="none" stroke="var(--ink)" stroke-width="2"/>')
    shapes.extend(
        f'<text x="{_LEFT + month * step:.1f}" y="{_HEIGHT - 12}">{months[month]}</text>'
        for month in range(0, len(months), max(1, len(months) // 8))
    )
    key = " ".join(
        f'<span style="color:{_COLOURS[n % len(_COLOURS)]}">&#9632;</span> {escape(name)}'
        for n, name in enumerate(sorted(layers))
    )
    return f'<h2>{escape(title)}</h2><p>{key}</p><svg viewBox="0 0 {_WIDTH} {_HEIGHT}">{"".join(shapes)}</svg>'


def _caps(report: Report) -> str:
    if report.explanation is None:
        return ""
    rows = "".join(
        f"<tr><td>{escape(item.words or item.what)}</td><td>"
        f"{'&ndash;' if item.usd_per_year is None else escape(usd(item.usd_per_year))} a year</td></tr>"
        for item in report.explanation.statements
    )
    return f"<h2>What each statement costs</h2><table>{rows}</table>"
