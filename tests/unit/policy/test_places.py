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
    assert places.shows_up < 1.0


def test_unknown_fingerprints_are_told_a_time_and_kept_no_place() -> None:
    places = Places(Shares({}), PlaceTable())
    assert places.promise("acme", 0, 10.0, 1.0, 0.0) == 10.0
    assert places.promise("acme", 0, 10.0, 1.0, 0.0) > 10.0
    assert len(places) == 0
    places.sweep(100.0)
    assert places.booked_until("acme") == 0.0
