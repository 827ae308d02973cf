"""Random cases for `bench plan`, each from a seed: Mélange's kind, and plans of a stated scale."""

import random

from secondsource.planner.futures import Future, draw_futures
from secondsource.planner.melange import Case, GpuType
from secondsource.planner.problem import Demand, Loss, LossKind, Problem, Rental, ShareCap
from secondsource.planner.spec import DeliverySpec, FuturesSpec
from secondsource.workload.forecast import forecast, month_hours, month_names

_TERM_PRICES = {0: 1.0, 1: 0.95, 12: 0.7, 36: 0.5}


def melange_case(seed: int) -> Case:
    """Return a case of 2 to 5 GPU types and 4 to 16 buckets, of 1 to 60 dollars an hour or so."""
    source = random.Random(seed)  # noqa: S311 -- a benchmark, not a secret
    sizes = source.choice([2, 3, 4])
    gpus = {}
    for number in range(source.randint(2, 5)):
        power = source.uniform(1.0, 12.0)
        taste = source.uniform(0.3, 0.9)  # how fast it slows with size
        gpus[f"gpu-{number}"] = GpuType(
            cost=round(power * source.uniform(0.4, 0.8), 2),
            tputs=[
                [round(power * 2 * taste ** (i + 1.5 * j) * source.uniform(0.8, 1.2), 3) for j in range(sizes)]
                for i in range(sizes)
            ],
        )
    weights = [[source.random() ** 2 for _ in range(sizes)] for _ in range(sizes)]
    total = sum(map(sum, weights))
    return Case(
        gpu_info=gpus,
        workload_distribution=[[weight / total for weight in row] for row in weights],
        total_request_rate=round(source.uniform(1.0, 40.0), 1),
        slice_factor=source.choice([1, 2, 4]),
    )


def scale_problem(
    offers: int, months: int, classes: int = 10, suppliers: int = 6, chips: int = 15, size: float = 1.0, seed: int = 0
) -> Problem:
    """Return a problem of so many offers at so many suppliers, each of whom may be lost and is capped at 30%.

    `size` 1.0 is a plan of about a billion dollars over 24 months, in proportion.
    """
    source = random.Random(seed)  # noqa: S311 -- a benchmark, not a secret
    vendors = ["nvidia", "google", "amd", "aws"]
    kinds = [(f"chip-{n}", source.choice(vendors), source.uniform(1.0, 8.0)) for n in range(chips)]
    weights = [source.uniform(0.2, 5.0) for _ in range(classes)]
    tastes = {(name, d): source.uniform(0.6, 1.4) for name, _, _ in kinds for d in range(classes)}
    rentals: dict[str, Rental] = {}
    rates: dict[str, tuple[float, ...]] = {}
    while len(rentals) < offers:
        supplier = f"supplier-{source.randrange(suppliers)}"
        chip, vendor, power = source.choice(kinds)
        term = source.choice(list(_TERM_PRICES))
        pool = f"{supplier}/{chip} x8"
        key = f"{supplier}/{source.choice('abcdefgh')}/{chip}/8/{term}"
        price = power * 1.4 * source.uniform(0.85, 1.25) * _TERM_PRICES[term]
        rentals[key] = Rental(
            key=key,
            pool=pool,
            supplier=supplier,
            vendor=vendor,
            chip=chip,
            chips_per_unit=8,
            term_months=term,
            nano_usd_per_unit_hour=int(price * 8 * 1e9),
            max_units=source.choice([None, None, int(300 * size) + 1, int(1500 * size) + 1]),
        )
        rates[pool] = tuple(power * 8 * tastes[chip, d] / weights[d] for d in range(classes))
    names = month_names("2027-01", months)
    demands = tuple(
        Demand(
            key=f"lane-{d % 3}/class-{d}",
            lane=f"lane-{d % 3}",
            size_class=f"class-{d}",
            model="model",
            peak=forecast(source.uniform(500.0, 3000.0) * size, months, source.uniform(0.3, 2.0)),
            survive=(1.0, 0.9, 0.6)[d % 3],
        )
        for d in range(classes)
    )
    owners = [f"supplier-{number}" for number in range(suppliers)]
    return Problem(
        months=names,
        hours=tuple(month_hours(month) for month in names),
        rentals=tuple(rentals.values()),
        demands=demands,
        rates=rates,
        losses=tuple(Loss(kind=LossKind.SUPPLIER, name=name) for name in owners),
        share_caps=tuple(ShareCap(supplier=name, max_share=0.3) for name in owners),
        owed_after_horizon=0.0,
    )


def scale_futures(problem: Problem, count: int, seed: int = 1) -> tuple[Future, ...]:
    """Return futures in which demand and price end up to half off, and a chip slips by up to nine months."""
    late = DeliverySpec(chip="chip-0", supplier=None, first_month=0, slips_months=(0, 3, 6, 9))
    return draw_futures(problem, FuturesSpec(), (late,), count, seed)
