"""Limits: what is said in a 429 and in the headers, and how a reservation is settled."""

import pytest

from secondsource.core.fleet import Allowance, Key, Tenant
from secondsource.policy.limits import Exceeded, Limits, Measure, Reservation, Use

SHA = "ab" * 32
DAY = 86_400.0
NOW = 20_000 * DAY + 100.0


def limits(key: Allowance, tenant: Allowance | None = None) -> Limits:
    tenants = [] if tenant is None else [Tenant(name="acme", allowance=tenant)]
    return Limits([Key(sha256=SHA, tenant="acme", lane="paid", allowance=key)], tenants)


def reserved(over: Limits, use: Use, now: float = NOW) -> Reservation:
    found = over.reserve(SHA, "acme", use, now)
    assert isinstance(found, Reservation)
    return found


def exceeded(over: Limits, use: Use, now: float = NOW) -> Exceeded:
    found = over.reserve(SHA, "acme", use, now)
    assert isinstance(found, Exceeded)
    return found


def test_no_limit_costs_nothing() -> None:
    assert limits(Allowance()).reserve(SHA, "acme", Use(10**12, 10**12), NOW) == Reservation(())
    assert limits(Allowance()).headers(SHA, "acme", NOW) == []


def test_a_minute_is_any_sixty_seconds() -> None:
    over = limits(Allowance(requests_per_minute=2))
    reserved(over, Use(0, 0), NOW + 0.9)
    reserved(over, Use(0, 0), NOW + 30.0)
    refused = exceeded(over, Use(0, 0), NOW + 60.5)
    assert refused.reason == "rejected-requests-per-minute"
    assert refused.resets_in_s == pytest.approx(0.5)
    reserved(over, Use(0, 0), NOW + 61.0)


def test_a_day_is_a_day_of_utc_and_the_message_says_all() -> None:
    over = limits(Allowance(nano_usd_per_day=50_000_000_000))
    reserved(over, Use(0, 49_999_999_999))
    refused = exceeded(over, Use(0, 2))
    assert refused.resets_in_s == DAY - 100.0
    assert refused.message == (
        "this key may use 50 usd per day, of which 1e-09 is left, less than this request may need; try again in 86300 s"
    )
    reserved(over, Use(0, 2), NOW + DAY)


def test_settling_gives_back_what_was_not_used() -> None:
    over = limits(Allowance(tokens_per_minute=100))
    reservation = reserved(over, Use(100, 0))
    exceeded(over, Use(1, 0))
    over.settle(reservation, Use(40, 0), NOW + 5.0)
    assert exceeded(over, Use(61, 0), NOW + 5.0).remaining == 60
    over.settle(reserved(over, Use(60, 0), NOW + 5.0), Use(70, 0), NOW + 6.0)  # a reservation that fell short
    assert exceeded(over, Use(1, 0), NOW + 6.0).remaining == 0


def test_a_request_that_was_never_sent_is_not_counted() -> None:
    over = limits(Allowance(requests_per_minute=1))
    over.cancel(reserved(over, Use(0, 0)), NOW)
    reserved(over, Use(0, 0))


def test_nothing_is_reserved_where_one_limit_refuses() -> None:
    over = limits(Allowance(requests_per_minute=5), Allowance(tokens_per_day=10))
    assert exceeded(over, Use(11, 0)).id.holder == "tenant"
    assert ("x-ratelimit-remaining-requests", "5") in over.headers(SHA, "acme", NOW)


def test_headers_tell_of_the_tightest_limit() -> None:
    over = limits(Allowance(requests_per_minute=10, requests_per_day=11), Allowance(nano_usd_per_minute=1_500_000_000))
    for _ in range(9):
        reserved(over, Use(0, 100_000_000), NOW + 0.5)
    assert dict(over.headers(SHA, "acme", NOW + 0.5)) == {
        "x-ratelimit-limit-requests": "10",
        "x-ratelimit-remaining-requests": "1",
        "x-ratelimit-reset-requests": "60.500s",
        "x-ratelimit-limit-usd": "1.5",
        "x-ratelimit-remaining-usd": "0.6",
        "x-ratelimit-reset-usd": "60.500s",
    }


def test_a_measure_is_named_as_clients_know_it() -> None:
    assert [measure.value for measure in Measure] == ["requests", "tokens", "usd"]
