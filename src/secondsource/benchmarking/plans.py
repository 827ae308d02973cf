"""The planner's rows of `bench plan`, what is asked of them, and their section of BENCHMARKS.md."""

from collections.abc import Sequence

import msgspec

from secondsource.benchmarking.markdown import Setting, measured, table

_SAME = 1e-6  # part of a cost within which two costs are one
_LARGE_USD, _SMALL_USD = 100e6, 10e6
_SECONDS = 30.0
_FUTURES_SECONDS = 300.0
_HOW = """\
Mélange's formulation is its published integer program, solved by the same solver: it gives each of `slice_factor`
slices of a bucket whole to one type of GPU; ours splits a bucket at will. The cases are random, each from its seed
(`planner/bench_cases.py`). The plans of a scale have ten classes of requests and six suppliers, each capped at 30% of
every month's rent and each to be lost. Seconds are from the problem to the plan; the checker shares no code with the
model."""


class Beside(msgspec.Struct, frozen=True, kw_only=True):
    """One case of Mélange's kind, by its formulation and by ours."""

    seed: int
    melange_usd_per_hour: float
    melange_seconds: float
    usd_per_hour: float
    gap: float
    seconds: float


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """One plan of a stated scale. `sound` says that the checker found nothing; no cost, that time ran out first."""

    offers: int
    months: int
    futures: int
    usd: float | None
    gap: float | None
    seconds: float
    sound: bool | None


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """One thing asked of the planner, what was measured, and whether it holds."""

    aim: str
    measured: str
    held: bool


def cheaper_and_dearer(cases: Sequence[Beside]) -> tuple[int, int]:
    """Return in how many cases ours costs less than Mélange's, and in how many more."""
    cheaper = sum(case.usd_per_hour < case.melange_usd_per_hour * (1 - _SAME) for case in cases)
    return cheaper, sum(case.usd_per_hour > case.melange_usd_per_hour * (1 + _SAME) for case in cases)


def beside_in_words(cases: Sequence[Beside]) -> str:
    """Return what the cases of Mélange's kind came to."""
    cheaper, dearer = cheaper_and_dearer(cases)
    ratios = sorted(case.usd_per_hour / case.melange_usd_per_hour for case in cases)
    return (
        f"Beside Mélange's formulation on {len(cases)} cases: cheaper in {cheaper}, dearer in {dearer}; "
        f"cost ratio median {ratios[len(ratios) // 2]:.4f}, least {ratios[0]:.4f}; seconds "
        f"{sum(case.seconds for case in cases):.2f} beside {sum(case.melange_seconds for case in cases):.2f}; "
        f"largest gap {max(case.gap for case in cases):.4%}."
    )


def scale_cells(row: Scale) -> tuple[str, ...]:
    """Return a row of the table of scales."""
    return (
        f"{row.offers}",
        f"{row.months}",
        f"{row.futures}",
        "none in time" if row.usd is None else f"${row.usd / 1e6:,.1f}M",
        "" if row.gap is None else f"{row.gap:.2%}",
        f"{row.seconds:.1f}",
        {True: "sound", False: "FAILS", None: ""}[row.sound],
    )


SCALE_HEADS = ("offers", "months", "futures", "cost", "gap", "seconds", "checker")


def judge_plans(cases: Sequence[Beside], scales: Sequence[Scale]) -> list[Verdict]:
    """Return the verdicts on what was run."""
    verdicts = []
    if cases:
        dearer = cheaper_and_dearer(cases)[1]
        told = f"dearer in {dearer} of {len(cases)}"
        verdicts.append(Verdict(aim="never dearer than Mélange's formulation", measured=told, held=not dearer))
    for row in scales:
        large = row.usd is None or row.usd >= _LARGE_USD
        asked = 0.01 if large else 0.03 if (row.usd or 0.0) >= _SMALL_USD else 0.001
        seconds = _FUTURES_SECONDS if row.futures else _SECONDS
        size = "" if row.usd is None else f", ${row.usd / 1e6:,.0f}M"
        futures = f" × {row.futures} futures" if row.futures else ""
        told = "no plan" if row.gap is None else f"{row.gap:.2%} in {row.seconds:.1f} s"
        verdicts.append(
            Verdict(
                aim=f"{row.offers} × {row.months}{futures}{size}: a gap of {asked:.1%} in {seconds:.0f} s",
                measured=told,
                held=row.gap is not None and row.gap <= asked and row.seconds <= seconds and row.sound is True,
            )
        )
    return verdicts


def plans_section(cases: Sequence[Beside], scales: Sequence[Scale], setting: Setting) -> str:
    """Return the section of BENCHMARKS.md."""
    verdicts = judge_plans(cases, scales)
    return "\n\n".join(
        [
            "## The planner",
            measured(setting),
            _HOW,
            *([beside_in_words(cases)] if cases else []),
            table(SCALE_HEADS, map(scale_cells, scales)),
            "### What we hold the planner to",
            table(("aim", "measured", "held"), ((v.aim, v.measured, "yes" if v.held else "**no**") for v in verdicts)),
        ]
    )
