"""The terms of a fleet file: what is promised to lanes, allowed to keys and tenants, and given to suppliers."""

from secondsource.core import fleet_values as values
from secondsource.core.fleet import Allowance, Cap, Key, Lane, Supplier, Tenant
from secondsource.core.fleet_money import read_nano_usd
from secondsource.core.strict_toml import Table

_LANE = Lane(name="")
_SUPPLIER = Supplier(name="")


def read_supplier(name: str, table: Table) -> Supplier:
    """Return a supplier and the share of the spend it may have."""
    share = table.optional("max_share", values.SHARE, None)
    return Supplier(
        name=name,
        max_share=None if share is None else float(share),
        share_window_s=float(table.optional("share_window", values.SHARE_WINDOW, _SUPPLIER.share_window_s)),
        cap=table.optional("cap", values.CAP, Cap.SOFT),
    )


def read_lane(table: Table) -> Lane:
    """Return a lane and what it promises."""
    ttft_s = table.optional("ttft_s", values.SECONDS, None)
    tpot_s = table.optional("tpot_s", values.SECONDS, None)
    return Lane(
        name=table.required("name", values.NAME),
        priority=table.optional("priority", values.PRIORITY, _LANE.priority),
        ttft_s=None if ttft_s is None else float(ttft_s),
        tpot_s=None if tpot_s is None else float(tpot_s),
        max_waiting=table.optional("max_waiting", values.WAITING, _LANE.max_waiting),
    )


def read_tenant(name: str, table: Table) -> Tenant:
    """Return a tenant's share within its lanes and its allowance."""
    weight = table.optional("weight", values.WEIGHT, None)
    return Tenant(name=name, weight=1.0 if weight is None else float(weight), allowance=_allowance(table))


def read_key(table: Table) -> Key:
    """Return a key and its allowance."""
    return Key(
        sha256=table.required("sha256", values.SHA256),
        tenant=table.required("tenant", values.TENANT),
        lane=table.required("lane", values.NAME),
        allowance=_allowance(table),
    )


def _allowance(table: Table) -> Allowance:
    return Allowance(
        requests_per_minute=table.optional("requests_per_minute", values.COUNT, None),
        requests_per_day=table.optional("requests_per_day", values.COUNT, None),
        tokens_per_minute=table.optional("tokens_per_minute", values.COUNT, None),
        tokens_per_day=table.optional("tokens_per_day", values.COUNT, None),
        nano_usd_per_minute=read_nano_usd(table, "usd_per_minute"),
        nano_usd_per_day=read_nano_usd(table, "usd_per_day"),
    )
