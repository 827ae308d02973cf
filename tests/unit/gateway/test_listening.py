"""The public listener: one port for all sharers, which nobody else has."""

import asyncio
import socket

import pytest
import uvloop

from secondsource.core.errors import InputError
from secondsource.gateway.listening import ACCEPTED_AT_ONCE, Listening, bind, url_of


def test_urls() -> None:
    assert url_of("127.0.0.1", 80) == "http://127.0.0.1:80"
    assert url_of("::1", 80) == "http://[::1]:80"


async def test_sharers_have_one_port_and_every_client_reaches_one_of_them() -> None:
    sets = await bind("127.0.0.1", 0, 3)
    ports = {one.getsockname()[1] for some in sets for one in some}
    assert len(ports) == 1
    reached: list[int] = []

    def greet(number: int) -> asyncio.Protocol:
        reached.append(number)
        return asyncio.Protocol()

    listenings = [Listening(lambda number=number: greet(number)) for number in range(2)]  # type: ignore[misc]
    for number, listening in enumerate(listenings):
        await listening.accept_on(number, sets[number])
    await listenings[0].accept_on(2, sets[2])  # the third is taken over by the first
    clients = [socket.create_connection(("127.0.0.1", ports.copy().pop())) for _ in range(60)]
    async with asyncio.timeout(10):
        while len(reached) < len(clients):  # noqa: ASYNC110 -- until all are accepted
            await asyncio.sleep(0.01)
    assert set(reached) == {0, 1}
    for one in (*clients, *(each for some in sets for each in some)):
        one.close()
    for listening in listenings:
        listening.close()


@pytest.mark.parametrize("sharers", [0, 2])
async def test_a_port_that_another_gateway_shares_among_its_own_is_taken(sharers: int) -> None:
    sets = await bind("127.0.0.1", 0, 2)
    port = sets[0][0].getsockname()[1]
    with pytest.raises(InputError, match=f"port {port} on 127.0.0.1 is taken"):
        await bind("127.0.0.1", port, sharers)
    for some in sets:
        for one in some:
            one.close()


async def test_an_address_that_is_not_ours() -> None:
    with pytest.raises(InputError, match=r"cannot listen on 203\.0\.113\.1:0"):
        await bind("203.0.113.1", 0)


def test_many_who_come_at_once_are_let_in_within_few_turns_of_the_loop() -> None:
    """libuv lets in one a turn for each watch of a socket, and a turn is long where much is asked."""
    assert uvloop.run(_turns_for(64)) <= 64 / ACCEPTED_AT_ONCE + 4


async def _turns_for(clients: int) -> int:
    (sockets,) = await bind("127.0.0.1", 0)
    reached: list[asyncio.Protocol] = []

    def greet() -> asyncio.Protocol:
        reached.append(asyncio.Protocol())
        return reached[-1]

    coming = [socket.create_connection(sockets[0].getsockname()) for _ in range(clients)]  # while the loop stands still
    listening = Listening(greet)
    await listening.accept_on(0, sockets)
    turns = 0
    while len(reached) < clients and turns < 10 * clients:
        turns += 1
        await asyncio.sleep(0)
    listening.close()
    for one in (*coming, *sockets):
        one.close()
    return turns
