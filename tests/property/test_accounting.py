"""A replica's busy time is shared out once, whatever comes and goes, and costs add up."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from secondsource.core.fleet import Price
from secondsource.policy.accounting import ShareClock, Usage, cost_nano_usd

NANO = st.integers(0, 10**12)


@given(
    st.lists(
        st.tuples(st.integers(-5, 10**10), st.sampled_from(["enter", "leave", "look"]), st.integers(0, 99)), max_size=80
    )
)
def test_shares_add_up_to_the_busy_time_and_never_to_more(events: list[tuple[int, str, int]]) -> None:
    """A step back in time (a reading taken before another's) is no time at all."""
    clock, now, latest, busy, shares = ShareClock(), 10, 0, 0, 0
    active: list[int] = []
    for step, what, pick in events:
        now = max(now + step, 0)
        if what != "enter" and not active:
            continue  # nobody reads the clock
        busy += max(now - latest, 0) * bool(active)
        latest = max(latest, now)
        if what == "enter":
            active.append(clock.enter(now))
        elif what == "look":
            assert 0 <= clock.so_far(now, active[pick % len(active)]) <= busy
        else:
            shares += clock.leave(now, active.pop(pick % len(active)))
    while active:
        shares += clock.leave(latest, active.pop())
    assert shares <= busy
    assert busy - shares <= 2 * len(events)


@given(st.lists(st.integers(1, 10**12), min_size=1, max_size=20))
def test_attempts_that_are_always_together_bear_the_same(steps: list[int]) -> None:
    clock = ShareClock()
    marks = [clock.enter(5) for _ in range(7)]
    for moment in steps:
        clock.so_far(5 + moment, marks[0])
    end = 5 + max(steps)
    assert len({clock.so_far(end, mark) for mark in marks}) == 1


@given(NANO, NANO, NANO, NANO, st.integers(0, 10**16), st.tuples(*(st.integers(0, 10**7) for _ in range(3))))
def test_a_cost_is_the_exact_one_rounded_half_up(
    rent: int, price_in: int, price_cached: int, price_out: int, share: int, tokens: tuple[int, int, int]
) -> None:
    price = Price(
        nano_usd_per_replica_hour=rent,
        nano_usd_per_million_input_tokens=price_in,
        nano_usd_per_million_cached_tokens=price_cached,
        nano_usd_per_million_output_tokens=price_out,
    )
    usage = Usage(*tokens)
    uncached = max(usage.tokens_in - usage.tokens_cached, 0)
    by_token = uncached * price_in + usage.tokens_cached * price_cached + usage.tokens_out * price_out
    exact = Fraction(by_token, 10**6) + Fraction(share * rent, 3_600 * 10**9)
    assert cost_nano_usd(price, share, usage) == int(exact + Fraction(1, 2))
