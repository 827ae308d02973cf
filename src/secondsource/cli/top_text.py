"""The screen of `secondsource top`, drawn with rich from what the console's page Now is told. Pure."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from secondsource.console.answers import Now, PoolNow

COLOURS = ("blue", "dark_orange", "green", "magenta", "cyan", "yellow", "red", "bright_blue")
MOST_INCIDENTS = 8
NONE = "–"


def screen(now: Now, url: str, problem: str = "") -> RenderableType:
    """Return everything, top to bottom."""
    colours = {supplier.name: COLOURS[place % len(COLOURS)] for place, supplier in enumerate(now.suppliers)}
    parts: list[RenderableType] = [_head(now, url)]
    if problem:
        parts.append(Text(problem, style="bold red"))
    for table in (_lanes(now), _pools(now, colours), _suppliers(now, colours), _chips(now), _incidents(now)):
        parts += [Text(""), table]
    return Group(*parts)


def _head(now: Now, url: str) -> Text:
    facts = (
        f"{now.running} in flight",
        f"{now.waiting} waiting",
        f"{now.requests_per_s:.1f} requests/s",
        f"{now.tokens_per_s:.0f} tokens/s",
        f"goodput {_part(now.goodput)}",
        f"{_usd(now.usd_per_hour)}/h",
        f"{_usd(now.usd_per_million)}/M tokens",
    )
    head = Text(f"secondsource {now.at:%H:%M:%S} UTC  ", style="bold")
    return head.append(f"{url}  ", style="dim").append("   ".join(facts), style="not bold")


def _lanes(now: Now) -> Table:
    table = _table("lane", "running", "waiting", "requests/s", "refused/s", "TTFT p50", "p99", "SLO", "TPOT p50", "SLO")
    for lane in now.lanes:
        late = lane.ttft_s_p99 is not None and lane.ttft_s_slo is not None and lane.ttft_s_p99 > lane.ttft_s_slo
        table.add_row(
            lane.name,
            str(lane.running),
            str(lane.waiting),
            f"{lane.requests_per_s:.1f}",
            f"{lane.refused_per_s:.1f}",
            _seconds(lane.ttft_s_p50),
            Text(_seconds(lane.ttft_s_p99), style="red" if late else ""),
            _seconds(lane.ttft_s_slo),
            _seconds(lane.tpot_s_p50),
            _seconds(lane.tpot_s_slo),
        )
    return table


def _pools(now: Now, colours: dict[str, str]) -> Table:
    table = _table(
        "pool", "supplier", "chip", "health", "in flight", "limit", "waiting", "tokens/s", "failed/min", left=4
    )
    for pool in now.pools:
        table.add_row(
            pool.name,
            Text(pool.supplier, style=colours.get(pool.supplier, "")),
            pool.chip,
            _health(pool),
            str(pool.in_flight),
            NONE if pool.limit is None else str(pool.limit),
            NONE if pool.waiting is None else str(pool.waiting),
            f"{pool.tokens_per_s:.0f}",
            str(pool.failed_per_min),
        )
    return table


def _health(pool: PoolNow) -> Text:
    if not pool.plugged:
        return Text("unplugged", style="bold red")
    if not pool.at_par:
        return Text("not at par", style="yellow")
    return Text(f"{pool.up}/{pool.replicas} up", style="green" if pool.up == pool.replicas else "bold red")


def _suppliers(now: Now, colours: dict[str, str]) -> Table:
    table = _table("supplier", "share", "cap", "in flight", "tokens/s")
    for supplier in now.suppliers:
        table.add_row(
            Text(supplier.name, style=colours[supplier.name]),
            Text(_part(supplier.share), style="red" if supplier.capped else ""),
            _part(supplier.max_share),
            str(supplier.in_flight),
            f"{supplier.tokens_per_s:.0f}",
        )
    return table


def _chips(now: Now) -> Table:
    table = _table("chip", "$/h", "tokens/s", "$/M busy", "$/M all hours")
    for chip in now.chips:
        prices = (chip.marginal_usd_per_million, chip.loaded_usd_per_million)
        table.add_row(chip.chip, _usd(chip.usd_per_hour), f"{chip.tokens_per_s:.0f}", *map(_usd, prices))
    return table


def _incidents(now: Now) -> Table:
    table = _table("at", "incident", "why", "supplier", "lane", "request", left=6)
    for one in now.incidents[:MOST_INCIDENTS]:
        times = f" ×{one.count}" if one.count > 1 else ""
        table.add_row(
            f"{one.at:%H:%M:%S}",
            f"{one.kind.value}{times}",
            one.reason.replace("_", " "),
            one.supplier,
            one.lane,
            one.request_ids[0],
        )
    return table


def _table(*headings: str, left: int = 1) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0), title="", expand=False)
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="left" if place < left else "right", no_wrap=True)
    return table


def _seconds(value: float | None) -> str:
    if value is None:
        return NONE
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


def _usd(value: float | None) -> str:
    return NONE if value is None else f"${value:,.2f}"


def _part(value: float | None) -> str:
    return NONE if value is None else f"{value:.1%}"
