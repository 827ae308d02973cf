"""What attempts cost: shares of a replica's busy time, prices by the token, and who bears it."""

import pytest

from secondsource.core.fleet import Price
from secondsource.core.records import Outcome
from secondsource.policy.accounting import ShareClock, Usage, cost_nano_usd, tenants_part

SECOND_NS = 1_000_000_000
HOUR_NS = 3600 * SECOND_NS


def test_an_attempt_alone_bears_all_of_its_time() -> None:
    clock = ShareClock()
    mark = clock.enter(5 * SECOND_NS)
    assert clock.leave(8 * SECOND_NS, mark) == 3 * SECOND_NS


def test_attempts_together_share_each_second_equally() -> None:
    clock = ShareClock()
    one = clock.enter(0)
    two = clock.enter(1 * SECOND_NS)
    assert clock.so_far(3 * SECOND_NS, one) == 2 * SECOND_NS
    assert clock.leave(3 * SECOND_NS, two) == 1 * SECOND_NS
    assert clock.leave(4 * SECOND_NS, one) == 3 * SECOND_NS


def test_idle_time_costs_nobody() -> None:
    clock = ShareClock()
    clock.leave(SECOND_NS, clock.enter(0))
    mark = clock.enter(100 * SECOND_NS)
    assert clock.leave(101 * SECOND_NS, mark) == SECOND_NS


def test_leaving_twice_is_refused() -> None:
    clock = ShareClock()
    mark = clock.enter(0)
    clock.leave(1, mark)
    with pytest.raises(AssertionError, match="had not entered"):
        clock.leave(2, mark)


def test_rent_by_time() -> None:
    price = Price(nano_usd_per_replica_hour=8 * 6_980_000_000)
    assert cost_nano_usd(price, HOUR_NS, Usage(10, 0, 10)) == 8 * 6_980_000_000
    assert cost_nano_usd(price, 0, Usage(10, 0, 10)) == 0


def test_prices_by_token_count_cached_tokens_once() -> None:
    price = Price(
        nano_usd_per_million_input_tokens=2_000_000_000,
        nano_usd_per_million_cached_tokens=500_000_000,
        nano_usd_per_million_output_tokens=8_000_000_000,
    )
    assert cost_nano_usd(price, HOUR_NS, Usage(1_000_000, 400_000, 500_000)) == 1_200_000_000 + 200_000_000 + 4 * 10**9


def test_time_and_tokens_are_rounded_half_up_once_and_together() -> None:
    price = Price(nano_usd_per_replica_hour=1, nano_usd_per_million_output_tokens=1)
    quarter = Usage(0, 0, 250_000)
    assert cost_nano_usd(price, HOUR_NS // 4, quarter) == 1  # a quarter and a quarter: half, rounded up
    assert cost_nano_usd(price, HOUR_NS // 4, Usage(0, 0, 249_999)) == 0
    assert cost_nano_usd(price, HOUR_NS // 2, Usage(0, 0, 500_000)) == 1  # not a half and a half, each rounded up


@pytest.mark.parametrize("outcome", list(Outcome))
def test_the_tenant_bears_answers_and_what_it_left_itself(outcome: Outcome) -> None:
    bears = outcome in (Outcome.OK, Outcome.CLIENT_GONE)
    assert tenants_part(outcome, 1234) == (1234 if bears else 0)
