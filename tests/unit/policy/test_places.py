"""Kept places: one after another, known again, given out once, and forgotten in time."""

import pytest

from secondsource.policy.fair_queue import Shares
from secondsource.policy.place_table import PlaceTable
from secondsource.policy.places import SLACK, Arrival, Places


def test_each_is_told_a_time_of_its_own() -> None:
    places = Places(Shares({}), PlaceTable())
    times = [places.promise("acme", number, 10.0, 2.0, 0.0) for number in (1, 2, 3)]
    assert times == pytest.approx([10.0, 10.0 + 2.0 * SLACK, 10.0 + 4.0 * SLACK])
    assert places.booked_until("acme") == pytest.approx(10.0 + 6.0 * SLACK)
    assert places.promise("other", 4, 10.0, 2.0, 0.0) == 10.0  # another tenant's part is another's


def test_a_place_is_early_then_due_and_given_out_once() -> None:
    places = Places(Shares({}), PlaceTable())
    places.promise("acme", 7, 10.0, 1.0, 0.0)
    assert places.claim(7, 5.0) == (Arrival.EARLY, 10.0)
    assert places.claim(8, 10.0).arrival is Arrival.NEW
    assert places.claim(7, 10.0) == (Arrival.DUE, 10.0)
    assert places.claim(7, 10.0).arrival is Arrival.NEW


def test_a_place_lapses_and_is_learned_from() -> None:
    shares = Shares({})
    places = Places(shares, PlaceTable())
    places.promise("acme", 7, 10.0, 1.0, 0.0)
    places.sweep(14.0)
    assert (len(places), shares.total) == (1, 1.0)
    assert places.claim(7, 16.0).arrival is Arrival.NEW
    places.sweep(16.0)
    assert (len(places), shares.total) == (0, 0.0)
    assert places.shows_up("acme", 10.0) < 1.0


def test_who_comes_back_is_learned_of_each_tenant_by_how_long_it_was_told_to_wait() -> None:
    places, now = Places(Shares({}), PlaceTable()), 0.0
    for number in range(1, 1001):  # one in four of the short waits is kept to, and none of the long ones
        short = places.promise("acme", 2 * number, now + 5.0, 0.0, now)
        places.promise("impatient", 2 * number + 1, now + 500.0, 0.0, now)
        if number % 4 == 0:
            assert places.claim(2 * number, short).arrival is Arrival.DUE
        now += 10.0
        places.sweep(now)
    places.sweep(now + 1000.0)
    assert places.shows_up("acme", 5.0) == pytest.approx(0.25, abs=0.05)
    assert places.shows_up("acme", 500.0) == pytest.approx(0.25, abs=0.05)  # nothing is known of those
    assert places.shows_up("impatient", 500.0) < 0.05
    assert places.shows_up("impatient", 5.0) == 1.0


def test_patience_that_ends_within_a_wait_is_not_taken_for_less() -> None:
    places, now = Places(Shares({}), PlaceTable()), 0.0
    for number in range(1, 401):
        at = places.promise("acme", 2 * number, now + 60.0, 0.0, now)
        places.promise("acme", 2 * number + 1, now + 100.0, 0.0, now)
        if number % 2:
            assert places.claim(2 * number, at).arrival is Arrival.DUE
        now += 200.0
        places.sweep(now)
    assert places.shows_up("acme", 60.0) == pytest.approx(0.5, abs=0.1)
    assert places.shows_up("acme", 100.0) == places.shows_up("acme", 60.0)  # though of these nobody came
    assert places.shows_up("acme", 300.0) < 0.05  # nothing is known of those but by the ones before


def test_who_comes_anew_is_passed_by_those_who_are_promised() -> None:
    places = Places(Shares({}), PlaceTable())
    assert places.passed_s("acme", 3.0, 0.0) == 3.0
    places.promise("acme", 7, 11.5, 0.0, 0.0)
    assert places.passed_s("acme", 3.0, 0.0) == pytest.approx(3.0 + 11.5 / SLACK)
    assert places.passed_s("acme", 0.1, 0.0) == pytest.approx(0.1 * SLACK / (SLACK - 1.0))
    assert places.passed_s("acme", 3.0, 20.0) == 3.0


def test_unknown_fingerprints_are_told_a_time_and_kept_no_place() -> None:
    places = Places(Shares({}), PlaceTable())
    assert places.promise("acme", 0, 10.0, 1.0, 0.0) == 10.0
    assert places.promise("acme", 0, 10.0, 1.0, 0.0) > 10.0
    assert len(places) == 0
    places.sweep(100.0)
    assert places.booked_until("acme") == 0.0
