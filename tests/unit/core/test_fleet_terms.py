"""What a fleet file promises and allows, read into records; the gateway still refuses the file that says it."""

import pytest

from secondsource.core.errors import InputError
from secondsource.core.fleet import Allowance, Cap, Lane, Supplier, Tenant
from secondsource.core.fleet_file import parse_fleet
from secondsource.core.fleet_terms import read_key, read_lane, read_supplier, read_tenant
from secondsource.core.strict_toml import Document, Table

HASH = "a" * 64


def table(text: str) -> Table:
    return Document(text, "f").root


def test_a_lane_and_a_supplier_are_read() -> None:
    lane = read_lane(table('name = "paid"\npriority = 3\nttft_s = 2.5\ntpot_s = 0.1\nmax_waiting = 7'))
    assert lane == Lane(name="paid", priority=3, ttft_s=2.5, tpot_s=0.1, max_waiting=7)
    supplier = read_supplier("azure", table('max_share = 0.6\nshare_window = 600\ncap = "hard"'))
    assert supplier == Supplier(name="azure", max_share=0.6, share_window_s=600.0, cap=Cap.HARD)


def test_what_is_not_said_is_no_limit() -> None:
    assert read_supplier("azure", table("")) == Supplier(name="azure")
    assert read_lane(table('name = "a"')) == Lane(name="a")
    assert read_tenant("acme", table("")) == Tenant(name="acme")


def test_allowances_are_whole_numbers_of_nano_dollars() -> None:
    said = f'sha256 = "{HASH}"\ntenant = "t"\nlane = "l"\nusd_per_day = 50.000000001\nusd_per_minute = 0\n'
    key = read_key(table(said + "requests_per_minute = 600\ntokens_per_day = 5"))
    assert key.allowance == Allowance(
        nano_usd_per_day=50_000_000_001, nano_usd_per_minute=0, requests_per_minute=600, tokens_per_day=5
    )
    tenant = read_tenant("acme", table("weight = 2\nrequests_per_day = 9\ntokens_per_minute = 8"))
    assert tenant.allowance == Allowance(requests_per_day=9, tokens_per_minute=8)
    assert tenant.weight == 2.0


@pytest.mark.parametrize(
    ("text", "wrong"),
    [("max_share = 1.1", "max_share"), ('cap = "firm"', "cap"), ("share_window = 1", "share_window")],
)
def test_what_is_out_of_range_is_a_fault_at_its_key(text: str, wrong: str) -> None:
    document = Document(text, "f")
    read_supplier("azure", document.root)
    with pytest.raises(InputError, match=f"f:1: {wrong}: expected"):
        document.finish()


def test_terms_of_a_tenant_that_no_key_is_of_are_a_fault() -> None:
    with pytest.raises(InputError, match=r'tenants\.acme: no key is of tenant "acme"'):
        parse_fleet("[tenants.acme]\n", "f")
