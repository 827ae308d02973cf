import resource
from dataclasses import dataclass, field

import pytest

from secondsource.core.fleet import Timeouts
from secondsource.gateway.connections import LARGEST_BODIES, Connections
from secondsource.gateway.open_files import KEPT_FREE


@dataclass(eq=False)
class Connected:
    """A client's connection, as far as this owner of them looks."""

    idle_since: float
    busy: bool = False
    arriving: bool = False
    ended: list[str] = field(default_factory=list)

    def abort(self) -> None:
        self.ended.append("aborted")

    def close(self) -> None:
        self.ended.append("closed")

    def time_out(self) -> None:
        self.ended.append("timed out")


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> Connections:
    """An owner of a hundred connections at the most."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (KEPT_FREE + 267, 4096))
    return Connections(Timeouts(idle=10.0, request=2.0), largest_body=1000)


def test_where_there_are_too_many_those_go_that_idled_longest(connections: Connections) -> None:
    open_ones = [Connected(float(number), busy=number % 4 == 0) for number in range(100)]
    for one in reversed(open_ones):
        connections.opened(one)
    newest = Connected(100.0)
    connections.opened(newest)
    gone = [one for one in open_ones if one.ended]
    assert gone == [one for one in open_ones if not one.busy][:11]
    assert newest.ended == []
    for number in range(10):  # there is room for as many as went, before anybody else has to
        connections.opened(Connected(101.0 + number))
    assert [one for one in open_ones if one.ended] == gone


def test_where_all_are_being_answered_the_newest_is_turned_away(connections: Connections) -> None:
    open_ones = [Connected(float(number), busy=True) for number in range(100)]
    for one in open_ones:
        connections.opened(one)
    newest = Connected(100.0)
    connections.opened(newest)
    assert newest.ended == ["aborted"]
    assert not any(one.ended for one in open_ones)
    connections.closed(open_ones[0])
    another = Connected(101.0)
    connections.opened(another)
    assert another.ended == []


def test_bodies_of_all_clients_together_are_bounded(connections: Connections) -> None:
    assert connections.hold(LARGEST_BODIES * 1000)
    assert not connections.hold(1)
    assert connections.hold(-2)
