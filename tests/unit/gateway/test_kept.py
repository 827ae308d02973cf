"""Which kept connection may have the next request."""

from secondsource.gateway.kept import LONGEST_S, MOST, STAYS_S, Kept


class Connection:
    """A connection as its keeper sees it."""

    def __init__(self) -> None:
        self.kept_since = 0.0
        self.had_stream = False
        self.open = True

    def is_open(self) -> bool:
        return self.open

    def close(self) -> None:
        self.open = False


def keeping(count: int, *, streamed: bool, now: float = 0.0) -> tuple[Kept[Connection], list[Connection]]:
    kept: Kept[Connection] = Kept()
    connections = [Connection() for _ in range(count)]
    assert all(kept.keep(one, now, streamed=streamed) for one in connections)
    return kept, connections


def test_the_one_used_last_is_used_next() -> None:
    kept, (first, second) = keeping(2, streamed=False)
    assert [kept.take(0.0) for _ in range(3)] == [second, first, None]


def test_one_that_had_a_stream_has_to_stay_open_first() -> None:
    kept, (first,) = keeping(1, streamed=True)
    assert kept.take(0.9 * STAYS_S) is None
    assert kept.take(STAYS_S) is first
    assert kept.keep(first, 1.0, streamed=True)
    assert kept.take(1.0) is first, "one was seen to stay open"


def test_one_that_had_none_is_used_at_once_beside_those_that_had() -> None:
    kept, _ = keeping(2, streamed=True)
    other = Connection()
    assert kept.keep(other, 0.0, streamed=False)
    _, newest = Connection(), Connection()
    assert kept.keep(newest, 0.0, streamed=True)
    assert kept.take(0.0) is other
    assert kept.take(0.0) is None


def test_a_replica_that_begins_to_close_after_streams_is_believed() -> None:
    kept, (first, second) = keeping(2, streamed=True)
    assert kept.take(STAYS_S) is second
    assert kept.keep(second, 1.0, streamed=True)
    kept.closed(second, 1.001)
    assert kept.keep(Connection(), 1.002, streamed=True)
    assert kept.take(1.003) is first, "an older one that is still open"
    assert kept.keep(first, 1.004, streamed=True)
    assert kept.take(1.005) is first


def test_one_that_closed_under_a_request_is_noticed_too() -> None:
    kept, (first,) = keeping(1, streamed=True)
    assert kept.take(STAYS_S) is first
    assert kept.keep(first, 1.0, streamed=True)
    assert kept.take(1.0) is first
    kept.closed(first, 1.001)
    assert kept.keep(Connection(), 1.002, streamed=True)
    assert kept.take(1.003) is None


def test_one_that_closes_later_says_nothing() -> None:
    kept, (first, second) = keeping(2, streamed=True)
    assert kept.take(STAYS_S) is second
    kept.closed(first, 2.0)
    assert kept.keep(second, 3.0, streamed=True)
    assert kept.take(3.0) is second


def test_none_is_used_that_the_replica_may_be_about_to_close() -> None:
    kept, connections = keeping(3, streamed=False)
    assert kept.take(LONGEST_S) is None
    assert not any(one.open for one in connections)


def test_a_closed_one_is_passed_over_and_forgotten() -> None:
    kept, (first, second) = keeping(2, streamed=False)
    second.close()
    assert kept.take(0.0) is first
    kept.closed(second, 0.0)
    kept.closed(Connection(), 0.0)
    assert kept.take(0.0) is None


def test_no_more_are_kept_than_enough() -> None:
    kept, _ = keeping(MOST, streamed=False)
    assert not kept.keep(Connection(), 0.0, streamed=False)
