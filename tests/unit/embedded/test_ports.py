"""Free loopback ports."""

import socket
from collections.abc import Iterator

import pytest

from secondsource.core.errors import SecondsourceError
from secondsource.embedded.ports import choose_free_ports, is_free


@pytest.fixture
def taken() -> Iterator[int]:
    (port,) = choose_free_ports(1)
    with socket.socket() as owner:
        owner.bind(("127.0.0.1", port))
        owner.listen()
        yield port


def test_a_port_with_a_listener_is_not_free(taken: int) -> None:
    assert not is_free(taken)


def test_chosen_ports_are_free_distinct_and_below_those_of_outgoing_connections() -> None:
    ports = choose_free_ports(5)
    assert len(set(ports)) == 5
    assert all(20_000 <= port < 32_768 and is_free(port) for port in ports)


def test_taken_avoided_and_repeated_ports_are_passed_over(taken: int) -> None:
    first, second, avoided = choose_free_ports(3)
    draws = iter([taken, avoided, first, first, second])
    assert choose_free_ports(2, avoid=[avoided], draw=lambda _: next(draws) - 20_000) == (first, second)


def test_no_free_port_is_an_error_and_no_endless_search(taken: int) -> None:
    with pytest.raises(SecondsourceError, match="no free loopback port"):
        choose_free_ports(1, draw=lambda _: taken - 20_000)
