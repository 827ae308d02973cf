"""The table of places: bounded, written over when lapsed, and one for all workers."""

from secondsource.policy.fair_queue import Shares
from secondsource.policy.place_table import ROWS, TABLE_BYTES, WAYS, PlaceTable, wiped_parts
from secondsource.policy.places import Arrival, Places


def test_a_row_holds_so_many_and_what_has_lapsed_there_makes_room() -> None:
    table = PlaceTable()
    same_row = [1 + ROWS * number for number in range(WAYS + 1)]
    kept = [table.keep(fingerprint, 10.0, 20.0 + number, 0.0) for number, fingerprint in enumerate(same_row)]
    assert kept == [True] * WAYS + [False]
    assert table.keep(same_row[-1], 30.0, 40.0, 20.5)
    assert table.find(same_row[0]) is None
    assert [table.find(one) is not None for one in same_row[1:]] == [True] * WAYS


def test_a_fingerprint_has_one_place_the_last() -> None:
    table = PlaceTable()
    assert table.keep(5, 10.0, 20.0, 0.0)
    assert table.keep(5, 30.0, 40.0, 0.0)
    found = table.find(5)
    assert found is not None
    assert found[:2] == (30.0, 40.0)
    table.take(found)
    assert table.find(5) is None


def test_a_guest_is_known_to_every_worker_and_served_once() -> None:
    memory = memoryview(bytearray(2 * TABLE_BYTES))
    one = Places(Shares({}), PlaceTable(memory, workers=2, worker=1))
    two = Places(Shares({}), PlaceTable(memory, workers=2, worker=2))
    at = one.promise("acme", 7, 10.0, 1.0, 0.0)
    assert two.claim(7, 5.0) == (Arrival.EARLY, at)
    assert two.claim(7, 10.0) == (Arrival.DUE, at)
    assert one.claim(7, 10.0).arrival is Arrival.NEW
    one.sweep(20.0)
    assert (len(one), one.shows_up) == (0, 1.0)  # it did come, if elsewhere


def test_what_a_dead_worker_promised_is_forgotten_and_nobody_elses() -> None:
    memory = memoryview(bytearray(3 * TABLE_BYTES))
    tables = [PlaceTable(memory, 3, worker) for worker in (1, 2, 3)]
    for number, table in enumerate(tables, 1):
        table.keep(number, 10.0, 20.0, 0.0)
    for part in wiped_parts(3, 2):
        memory[part] = bytes(part.stop - part.start)
    assert [tables[0].find(number) is not None for number in (1, 2, 3)] == [True, False, True]


def test_a_long_line_of_places_takes_no_more_memory_than_its_table() -> None:
    places = Places(Shares({}), PlaceTable())
    for number in range(1, 5001):
        places.promise("acme", number, number * 0.1, 0.1, number * 0.1)
        places.sweep(number * 0.1)
    assert len(places) < 1000
    places.sweep(10_000.0)
    assert len(places) == 0
    assert places.booked_until("acme") == 0.0
