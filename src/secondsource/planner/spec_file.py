"""Read the SPEC file: strict TOML in, frozen `Spec` out; every fault by file, line and key.

The reference of its keys is docs/planner.md.
"""

from decimal import Decimal
from pathlib import Path

from secondsource.catalog.load import read_chip
from secondsource.core.demand import SizeClass, Slo
from secondsource.core.errors import InputError
from secondsource.core.money import nano_usd
from secondsource.core.strict_toml import Document, Table
from secondsource.planner import spec_rules as rules
from secondsource.planner.spec import (
    CatalogFilter,
    ClassSpec,
    DemandSpec,
    FuturesSpec,
    LaneSpec,
    ModelSpec,
    Spec,
    SupplierSpec,
    WorkloadSpec,
)
from secondsource.planner.spec_checks import check_names
from secondsource.planner.spec_supply import (
    by_month,
    read_deliveries,
    read_held,
    read_limits,
    read_offers,
    read_rates,
)
from secondsource.planner.spec_words import spell_out
from secondsource.workload.forecast import Surge, forecast, month_names

DEFAULT_REPLICA_URL = "http://{pool}-{number}.internal:8000"


def load_spec(path: Path) -> Spec:
    """Return the SPEC that the file at `path` holds; every fault is in one `InputError`, one a line."""
    return parse_spec(read_text(path), str(path), path.parent)


def read_text(path: Path) -> str:
    """Return the SPEC file's text; raises InputError when it cannot be read."""
    try:
        return path.read_text("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}; name a SPEC file") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text; save the file as UTF-8") from None


def parse_spec(text: str, origin: str, folder: Path) -> Spec:
    """Return the SPEC that `text` describes; paths in it are relative to `folder`."""
    document = Document(text, origin)
    root = document.root
    plan = root.table("plan")
    start = plan.required("start", rules.MONTH)
    months = month_names(start or "2000-01", plan.required("months", rules.MONTHS))
    gap = plan.optional("gap", rules.SHARE, None)
    spec = Spec(
        name=plan.optional("name", rules.TEXT, "plan"),
        months=months,
        owed_after_horizon=float(plan.optional("owed_after_horizon", rules.SHARE, Decimal(1))),
        gap=None if gap is None else float(gap),
        seconds=float(plan.optional("seconds", rules.SECONDS, Decimal(60))),
        caution=float(plan.optional("caution", rules.CAUTION, Decimal(1))),
        models=tuple(_model(name, table) for name, table in root.named_tables("models", rules.NAME)),
        classes=tuple(_class(table) for table in root.tables("classes")),
        workloads=tuple(_workload(table, folder) for table in root.tables("workloads")),
        lanes=tuple(_lane(table) for table in root.tables("lanes")),
        demand=tuple(_demand(table, months) for table in root.tables("demand")),
        catalog=_catalog(root.table("catalog"), folder),
        chips=tuple(read_chip(table) for table in root.tables("chips")),
        offers=read_offers(root, months),
        held=read_held(root, months),
        rates=read_rates(root),
        limits=read_limits(root, months),
        deliveries=read_deliveries(root, months),
        suppliers=tuple(_supplier(name, table) for name, table in root.named_tables("suppliers", rules.NAME)),
        lose_suppliers=root.table("survive").optional("suppliers", rules.ALL_OR_NAMES, False),
        lose_vendors=root.table("survive").optional("vendors", rules.ALL_OR_NAMES, False),
        budget_nano_usd=tuple(nano_usd(value) for value in _budget(root, months)),
        futures=_futures(root.table("futures")) if root.optional("futures", rules.TABLE, False) else None,
        replica_url=root.table("fleet").optional("replica_url", rules.TEXT, DEFAULT_REPLICA_URL),
        words={},
    )
    plan.finish()
    _finish_tables(root)
    root.finish()
    check_names(document, spec)
    document.finish()
    return spell_out(spec, text, origin)


def _finish_tables(root: Table) -> None:
    survive, budget, fleet = root.table("survive"), root.table("budget"), root.table("fleet")
    survive.optional("suppliers", rules.ALL_OR_NAMES, False)
    survive.optional("vendors", rules.ALL_OR_NAMES, False)
    survive.finish()
    budget.optional("usd_per_month", rules.USD_BY_MONTH, ())
    budget.finish()
    fleet.optional("replica_url", rules.TEXT, "")
    fleet.finish()


def _model(name: str, table: Table) -> ModelSpec:
    model = ModelSpec(
        name=name,
        profile=table.optional("profile", rules.NAME, name),
        chips_per_replica=table.optional("chips_per_replica", rules.CHIPS_BY_CHIP, {}),
    )
    table.finish()
    return model


def _class(table: Table) -> ClassSpec:
    steps = table.optional("image_steps", rules.STEPS, 0)
    if steps:
        table.refuse(("input_tokens", "output_tokens"), "an image class has image_steps and no tokens; remove it")
    size = SizeClass(
        name=table.required("name", rules.NAME),
        image_steps=steps,
        input_tokens=0.0 if steps else float(table.required("input_tokens", rules.TOKENS)),
        output_tokens=0.0 if steps else float(table.required("output_tokens", rules.TOKENS)),
    )
    found = ClassSpec(size=size, model=table.required("model", rules.NAME))
    table.finish()
    return found


def _workload(table: Table, folder: Path) -> WorkloadSpec:
    found = WorkloadSpec(
        name=table.required("name", rules.NAME),
        model=table.required("model", rules.NAME),
        trace=folder / table.required("trace", rules.TEXT),
        format=table.optional("format", rules.FORMAT, None),
        classes=table.optional("classes", rules.COUNT, 4),
        max_gap_s=float(table.optional("max_gap_s", rules.SECONDS, Decimal(600))),
    )
    table.finish()
    return found


def _lane(table: Table) -> LaneSpec:
    ttft = table.optional("ttft_s", rules.SECONDS, None)
    tpot = table.optional("tpot_s", rules.SECONDS, None)
    price = table.optional("shortfall_usd_per_1000_requests", rules.USD, None)
    short = table.optional("may_fall_short", rules.FLAG, False)
    if short and price is None:
        table.report("may_fall_short", "needs shortfall_usd_per_1000_requests: what requests not served lose")
    table.refuse(("ttft_ms", "tpot_ms"), "limits are in seconds; write ttft_s or tpot_s, divided by 1000")
    lane = LaneSpec(
        name=table.required("name", rules.NAME),
        priority=table.optional("priority", rules.UNITS, 0),
        slo=Slo(
            ttft_s=None if ttft is None else float(ttft),
            tpot_s=None if tpot is None else float(tpot),
        ),
        survive=float(table.optional("survive", rules.SHARE, Decimal(1))),
        may_fall_short=short,
        shortfall_nano_usd=None if price is None else nano_usd(price / 1000),
    )
    table.finish()
    return lane


def _demand(table: Table, months: tuple[str, ...]) -> DemandSpec:
    size_class = table.optional("class", rules.NAME, None)
    workload = table.optional("workload", rules.NAME, None)
    if (size_class is None) == (workload is None):
        table.report("class", "expected either class or workload: what the demand is for")
    table.refuse(
        ("requests_per_day", "requests_per_hour", "requests_per_month"),
        "rates are per second, at the busiest time of the month; write requests_per_s",
    )
    given = table.required("requests_per_s", rules.REQUESTS_PER_S)
    growth = table.optional("growth_per_year", rules.GROWTH, None)
    surges = tuple(_surge(surge, months) for surge in table.tables("surges"))
    if growth is not None and len(given) > 1:
        table.report("growth_per_year", "growth is for one first rate; with a rate for each month, leave it out")
    values = [float(value) for value in by_month(table, "requests_per_s", given, months)]
    grown = forecast(values[0], len(months), float(growth or 0), surges)
    if len(given) > 1:
        flat = forecast(1.0, len(months), 0.0, surges)
        grown = tuple(value * factor for value, factor in zip(values, flat, strict=True))
    ratio = table.optional("mean_to_peak", rules.SHARE, None)
    found = DemandSpec(
        lane=table.required("lane", rules.NAME),
        size_class=size_class,
        workload=workload,
        peak=grown,
        surges=surges,
        mean_to_peak=None if ratio is None else float(ratio),
    )
    table.finish()
    return found


def _surge(table: Table, months: tuple[str, ...]) -> Surge:
    month = table.required("month", rules.MONTH)
    if month and month not in months:
        table.report("month", f"{month} is not in the plan, {months[0]} to {months[-1]}")
    surge = Surge(
        first=months.index(month) if month in months else 0,
        months=table.optional("months", rules.MONTHS, 1),
        factor=float(table.required("factor", rules.FACTOR)),
    )
    table.finish()
    return surge


def _catalog(table: Table, folder: Path) -> CatalogFilter:
    directory = table.optional("directory", rules.TEXT, None)
    found = CatalogFilter(
        directory=None if directory is None else folder / directory,
        suppliers=table.optional("suppliers", rules.NAMES, ()),
        chips=table.optional("chips", rules.NAMES, ()),
        regions=table.optional("regions", rules.NAMES, ()),
        terms_months=table.optional("terms_months", rules.MONTH_COUNTS, ()),
        exclude_suppliers=table.optional("exclude_suppliers", rules.NAMES, ()),
        exclude_chips=table.optional("exclude_chips", rules.NAMES, ()),
        exclude=table.optional("exclude", rules.TEXTS, ()),
        spot=table.optional("spot", rules.FLAG, False),
        use=table.optional("use", rules.FLAG, True),
    )
    table.finish()
    return found


def _supplier(name: str, table: Table) -> SupplierSpec:
    share = table.optional("max_share", rules.SHARE, None)
    table.refuse(("max_percent", "share"), "shares are parts of 1; write max_share = 0.6 for 60%")
    found = SupplierSpec(
        name=name,
        max_share=None if share is None else float(share),
        lead_months=table.optional("lead_months", rules.UNITS, 0),
    )
    table.finish()
    return found


def _budget(root: Table, months: tuple[str, ...]) -> tuple[Decimal, ...]:
    table = root.table("budget")
    table.refuse(("usd_per_year", "usd"), "the budget is by month; write usd_per_month")
    given = table.optional("usd_per_month", rules.USD_BY_MONTH, ())
    return by_month(table, "usd_per_month", given, months) if given else ()


def _futures(table: Table) -> FuturesSpec:
    default = FuturesSpec()
    price = table.optional("shortfall_usd_per_1000_requests", rules.USD, None)
    found = FuturesSpec(
        count=table.optional("count", rules.COUNT, default.count),
        trials=table.optional("trials", rules.COUNT, default.trials),
        seed=table.optional("seed", rules.SEED, default.seed),
        demand=float(table.optional("demand", rules.ERROR, Decimal(str(default.demand)))),
        price=float(table.optional("price", rules.ERROR, Decimal(str(default.price)))),
        surge_factor=float(table.optional("surge_factor", rules.FACTOR, Decimal(str(default.surge_factor)))),
        surge_chance=float(table.optional("surge_chance", rules.SHARE, Decimal(str(default.surge_chance)))),
        rates=float(table.optional("rates", rules.ERROR, Decimal(str(default.rates)))),
        shortfall_nano_usd=None if price is None else nano_usd(price / 1000),
    )
    table.finish()
    return found
