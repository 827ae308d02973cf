"""A service with the pump: streams pass outside the interpreter, and nothing that depends on them is late or wrong."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from secondsource.core.fleet import AdminListener, Listener, Timeouts
from secondsource.gateway.pump.library import load_library
from secondsource.gateway.pump.pump import Pump
from secondsource.gateway.service import Service
from tests.faults import meter, raw_client
from tests.fleets import MODEL, fleet, pool
from tests.streams import counts, says, stream

pytestmark = pytest.mark.skipif(load_library() is None, reason="the pump was not compiled: no C compiler")
ASK = {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
WORDS = [f" word{number}" for number in range(40)]
Play = Callable[[asyncio.StreamWriter], Any]


def framed(event: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(event), event)


async def words(writer: asyncio.StreamWriter, count: int = len(WORDS)) -> None:
    for word in WORDS[:count]:
        writer.write(framed(stream(says(word), done=False)))
        await writer.drain()
        await asyncio.sleep(0.01)


async def whole(writer: asyncio.StreamWriter) -> None:
    """Stream an answer to its end, with a word in its middle, half a character an escape, that is parsed."""
    await words(writer)
    writer.write(framed(stream(says("😀"), done=False)))
    await words(writer)
    writer.write(framed(stream(says(finish="stop"), done=False)) + framed(stream(counts(3, 81))) + b"0\r\n\r\n")


async def stalled(writer: asyncio.StreamWriter) -> None:
    """Fall silent."""
    await words(writer)
    await asyncio.sleep(30)


@contextlib.asynccontextmanager
async def serving(directory: Path, play: Play, **changes: Any) -> AsyncIterator[Service]:
    """A service over one replica that streams as `play` says."""

    asked: set[asyncio.Task[Any]] = set()

    async def replica(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.add(asyncio.current_task())  # type: ignore[arg-type]  # it is one
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = next((int(line[16:]) for line in head.split(b"\r\n") if line.startswith(b"content-length: ")), 0)
            await reader.readexactly(length)
            if head.startswith(b"POST"):
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
                )
                await play(writer)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(replica, "127.0.0.1", 0)
    only = pool("a", replicas=(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}",))
    gateway = Listener(host="127.0.0.1", port=0)
    admin = AdminListener(host="127.0.0.1", port=0)
    service = Service(fleet(only, gateway=gateway, admin=admin, state_dir=str(directory), **changes), {})
    await service.start()
    try:
        yield service
    finally:
        await service.stop(1.0)
        server.close()
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)


async def pumped(service: Service, streams: int) -> None:
    """Wait until the pump has so many streams."""
    assert service.pump is not None
    async with asyncio.timeout(20):
        while service.pump.streams != streams:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def row(directory: Path) -> meter.Row:
    """Return the one attempt of the ledger."""
    (found,) = meter.read_rows(directory).values()
    return found


async def test_a_stream_passes_through_the_pump_and_is_booked_as_ever(tmp_path: Path) -> None:
    async with serving(tmp_path, whole) as service:
        answering = asyncio.create_task(raw_client.post(service.gateway_url, ASK))
        await pumped(service, 1)
        received = await answering
        await pumped(service, 0)
    assert received.text() == "".join([*WORDS, "😀", *WORDS])
    assert received.done
    assert (row(tmp_path).outcome, row(tmp_path).tokens_out) == ("ok", 81)


async def test_with_the_pump_off_the_interpreter_does_it_all(tmp_path: Path) -> None:
    async with serving(tmp_path, whole, pump=False) as service:
        assert service.pump is None
        received = await raw_client.post(service.gateway_url, ASK)
    assert received.text() == "".join([*WORDS, "😀", *WORDS])
    assert row(tmp_path).tokens_out == 81


async def test_a_stall_is_noticed_and_what_came_before_it_is_counted(tmp_path: Path) -> None:
    timeouts = Timeouts(between_tokens=1.0)
    async with serving(tmp_path, stalled, timeouts=timeouts) as service:
        received = await raw_client.post(service.gateway_url, ASK)
    assert received.text() == "".join(WORDS)
    assert not received.done
    assert (row(tmp_path).outcome, row(tmp_path).tokens_out) == ("stalled", len(WORDS))


async def test_a_client_that_leaves_is_billed_for_what_it_was_sent(tmp_path: Path) -> None:
    async with serving(tmp_path, stalled) as service:
        answering = asyncio.create_task(raw_client.post(service.gateway_url, ASK, leave_after=20))
        await answering
        await pumped(service, 0)
        async with asyncio.timeout(10):
            while service.exchanges:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    assert row(tmp_path).outcome == "client_gone"
    assert 19 <= row(tmp_path).tokens_out <= len(WORDS)
    (line,) = [json.loads(text) for text in (tmp_path / "requests.jsonl").read_text().splitlines()]
    assert line["tokens_out"] == row(tmp_path).tokens_out


async def test_a_service_that_stops_settles_what_the_pump_had_passed_on(tmp_path: Path) -> None:
    said = asyncio.Event()

    async def and_say_so(writer: asyncio.StreamWriter) -> None:
        await words(writer)
        said.set()
        await asyncio.sleep(30)

    async with serving(tmp_path, and_say_so) as service:
        answering = asyncio.create_task(raw_client.post(service.gateway_url, ASK))
        await pumped(service, 1)
        await said.wait()
    received = await answering
    assert row(tmp_path).tokens_out == len(received.text().split())
    assert row(tmp_path).tokens_out > len(WORDS) - 3  # the last may not have been read yet


async def in_turn(writer: asyncio.StreamWriter) -> None:
    """Stream two choices, an event of each in turn."""
    for number, word in enumerate(WORDS):
        writer.write(framed(stream(says(word, index=number % 2), done=False)))
        await writer.drain()
        await asyncio.sleep(0.01)
    for index in range(2):
        writer.write(framed(stream(says(finish="stop", index=index), done=False)))
    writer.write(framed(stream(counts(3, 40))) + b"0\r\n\r\n")


async def test_a_stream_that_would_go_to_and_fro_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(Pump, "take", lambda *given: asked.append(len(given)))
    async with serving(tmp_path, in_turn) as service:
        received = await raw_client.post(service.gateway_url, ASK | {"n": 2})
    assert received.done
    assert row(tmp_path).tokens_out == len(WORDS)
    assert asked == []


async def two_kinds(writer: asyncio.StreamWriter) -> None:
    """Stream one choice, every other event of which says more than its text."""
    for number, word in enumerate(WORDS):
        writer.write(framed(stream(says(word, **({"role": "assistant"} if number % 2 else {})), done=False)))
        await writer.drain()
        await asyncio.sleep(0.01)
    writer.write(framed(stream(says(finish="stop"), done=False)) + framed(stream(counts(3, 40))) + b"0\r\n\r\n")


async def test_the_pump_is_asked_less_and_less_for_a_stream_that_it_gives_back_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take, taken = Pump.take, []

    def counted(pump: Pump, *given: Any) -> Any:
        taken.append(take(pump, *given))
        return taken[-1]

    monkeypatch.setattr(Pump, "take", counted)
    async with serving(tmp_path, two_kinds) as service:
        received = await raw_client.post(service.gateway_url, ASK)
    assert received.done
    assert row(tmp_path).tokens_out == len(WORDS)
    assert 1 <= len(taken) <= 3


async def test_a_pump_that_is_full_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(Pump, "take", lambda *given: asked.append(len(given)))
    async with serving(tmp_path, whole) as service:
        received = await raw_client.post(service.gateway_url, ASK)
    assert received.done
    assert row(tmp_path).tokens_out == 81
    assert len(asked) == 1
