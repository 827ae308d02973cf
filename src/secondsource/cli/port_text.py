"""Show what `secondsource port` found: one chip in full, or several side by side."""

from rich import box
from rich.console import Console
from rich.table import Table

from secondsource.port.report import Error, Parts, Report

_MESSAGE_LINES = 12


def show(console: Console, report: Report) -> None:
    """Print one report."""
    console.print(
        f"[bold]{report.model}[/bold] in {_formats(report)} on {report.chips} x {report.chip}: {verdict(report)}"
    )
    if report.failure is not None:
        lines = report.failure.message.strip().splitlines()[:_MESSAGE_LINES]
        console.print(f"  {report.failure.step} {report.failure.kind} at {report.failure.where or 'no line of ours'}:")
        console.print("\n".join(f"    {line}" for line in lines), markup=False, highlight=False)
    table = Table(box=None, show_header=False, pad_edge=True)
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in _rows(report):
        table.add_row(name, value)
    console.print(table)
    for change in report.changes:
        console.print(f"  - {change}", markup=False, highlight=False)
    console.print(f"  {report.compiler}; {report.as_of}", style="dim", highlight=False)


def verdict(report: Report) -> str:
    """Return the answer in words."""
    if report.compiles is None:
        return "the compiler gave no answer"
    if not report.compiles:
        return "does not compile"
    if report.fits:
        return "compiles and fits"
    needed = f"needs {report.chips_needed} chips" if report.chips_needed else "no slice of this chip holds it"
    return f"compiles, does not fit; {needed}"


def _rows(report: Report) -> list[tuple[str, str]]:
    hbm, placing, error = report.hbm_gb_per_chip, report.sharding, report.error["decode_step_s"]
    shape = f"slice {placing.slice}, {placing.tensor_parallel} ways tensor and {placing.data_parallel} data parallel"
    what = "of the program" if report.figures == "step" else "as served, from published serving points"
    rows = [
        ("fewest chips", "-" if report.chips_needed is None else str(report.chips_needed)),
        ("sharding", shape),
        (
            "memory a chip",
            f"{total_gb(report):.2f} of {hbm.available:.2f} GB: weights {hbm.weights:.2f}, cache {hbm.cache:.2f}, "
            f"padding {hbm.padding:.2f}, temporaries {hbm.temporaries:.2f}",
        ),
        (
            "decode step",
            f"{_ms(report.decode_step_s)} {what}, {report.batch} sequences of {_filled(report)}",
        ),
        ("", _full_slots(report)),
        ("", _parts(report.decode_parts)),
        ("", f"{_error(error)}; data sheet's bound {report.roofline_decode_step_s * 1e3:.2f} ms"),
        ("prefill", f"{_ms(report.prefill_s)} for {report.prompt_tokens} tokens, nothing else running"),
        ("per token", f"{_ms(report.tpot_s)} with the prompts of the next sequences beside it{_served(report)}"),
        ("output", f"{_number(report.output_tokens_per_s)} tokens/s a replica of {report.chips} chips"),
        ("price", _price(report)),
        ("programs", _programs(report)),
    ]
    if report.slo.met is not None:
        rows.append(("limits", "kept" if report.slo.met else "missed"))
    return [(name, value) for name, value in rows if value]


def _formats(report: Report) -> str:
    return report.weights if report.weights == report.cache else f"{report.weights}, cache in {report.cache},"


def _filled(report: Report) -> str:
    if report.filled_tokens == report.context_tokens:
        return f"{report.context_tokens} tokens"
    return f"{report.filled_tokens} tokens in slots of {report.context_tokens}"


def _full_slots(report: Report) -> str:
    if report.filled_tokens == report.context_tokens or report.full_decode_step_s is None:
        return ""
    return f"{_ms(report.full_decode_step_s)} with every slot full"


def total_gb(report: Report) -> float:
    """Return what one chip has to hold."""
    hbm = report.hbm_gb_per_chip
    return hbm.weights + hbm.cache + hbm.padding + hbm.temporaries


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e3:.2f} ms"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _parts(parts: Parts | None) -> str:
    if parts is None:
        return ""
    named = (("cores", parts.cores_s), ("waiting for memory", parts.memory_s), ("for other chips", parts.links_s))
    return ", ".join(f"{name} {seconds * 1e3:.2f}" for name, seconds in named)


def _error(error: Error) -> str:
    if error.median is None or error.p90 is None:
        return f"error unknown: {error.source}"
    return f"error {error.median:.0%} median, {error.p90:.0%} nine in ten ({error.source})"


def _served(report: Report) -> str:
    if report.served_tpot_s is None or report.figures == "served":
        return ""
    low, high = report.served_tpot_s
    return f"; served, engines add 4 to 6 ms: {low * 1e3:.1f} to {high * 1e3:.1f} ms, without queueing"


def _price(report: Report) -> str:
    if report.price is None:
        return "no offer of this chip in the catalogue"
    offer = f"{report.price.offer} at ${report.price.usd_per_chip_hour}/chip-hour of {report.price.as_of}"
    if report.usd_per_million_output_tokens is None:
        return offer
    return f"${report.usd_per_million_output_tokens} a million output tokens ({offer})"


def _programs(report: Report) -> str:
    cold = report.shapes.cold_compile_s
    took = "" if cold is None else f", at least {cold:,.0f} s of one processor cold"
    return f"{report.shapes.programs} shapes in a simulated day of {report.shapes.requests:,} requests{took}"


def show_side_by_side(console: Console, reports: list[Report]) -> None:
    """Print several chips as one table, the cheapest first and what does not run last."""
    first = reports[0]
    title = f"{first.model} in {first.weights}, {first.batch} sequences, {_filled(first)}"
    table = Table(box=box.SIMPLE_HEAD, title=title)
    for column in (
        "chip",
        "answer",
        "chips",
        "GB a chip",
        "of",
        "decode ms",
        "slots full",
        "prefill ms",
        "tokens/s",
        "$/M out",
        "seconds",
    ):
        table.add_column(
            column, justify="left" if column in {"chip", "answer", "seconds"} else "right", overflow="fold"
        )
    for report in sorted(reports, key=_rank):
        dollars = report.usd_per_million_output_tokens
        table.add_row(
            report.chip,
            verdict(report),
            str(report.chips),
            f"{total_gb(report):.1f}",
            f"{report.hbm_gb_per_chip.available:.1f}",
            _ms(report.decode_step_s).removesuffix(" ms"),
            _ms(report.full_decode_step_s).removesuffix(" ms"),
            _ms(report.prefill_s).removesuffix(" ms"),
            _number(report.output_tokens_per_s),
            "-" if dollars is None else f"{dollars}",
            "of the program" if report.figures == "step" else "as served",
        )
    console.print(table)


def _rank(report: Report) -> tuple[bool, bool, float]:
    dollars = report.usd_per_million_output_tokens
    return (not report.yes, dollars is None, float(dollars or 0))
