"""The engines' arithmetic and page, and the client over a server that behaves as told."""

import asyncio

import msgspec
import pytest

from secondsource.benchmarking.engines import (
    EngineSlice,
    engines_section,
    measure_engines,
    measure_prompts,
    summarise_engines,
    summarise_prompts,
)
from secondsource.core.errors import SecondsourceError


def one(engine: str, streams: int, rate: float) -> EngineSlice:
    return EngineSlice(engine=engine, streams=streams, tokens_per_s=rate, first_token_s=0.1)


def test_medians_and_ratios_are_of_the_same_number_of_streams() -> None:
    rates = {("peer", 1): (90, 100, 300), ("ours", 1): (60, 50, 40), ("peer", 8): (400,), ("ours", 8): (100,)}
    rows = summarise_engines([one(*key, rate) for key, found in rates.items() for rate in found], "peer")
    assert {(row.engine, row.streams): (row.tokens_per_s, row.ratio) for row in rows} == {
        ("peer", 1): (100, 1.0),
        ("ours", 1): (50, 0.5),
        ("peer", 8): (400, 1.0),
        ("ours", 8): (100, 0.25),
    }
    page = engines_section(rows, [], "It is bound.", "here and now")
    assert "| ours | 1 | 50.0 (40.0 to 60.0) | 0.50 | 0.100 |" in page
    assert page.endswith("It is bound.")


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, events: int) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    for _ in range(events):
        writer.write(b'data: {"choices":[]}\n\n')
        await writer.drain()
        await asyncio.sleep(0.01)
    writer.write(b"data: [DONE]\n\n")
    writer.close()


@pytest.mark.parametrize("events", [10, 2])
async def test_every_stream_is_timed_and_a_short_answer_is_an_error(events: int) -> None:
    server = await asyncio.start_server(lambda *both: serve(*both, events), "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    said: list[str] = []
    async with server:
        measuring = measure_engines({"peer": url, "ours": url}, rounds=2, tokens=10, say=said.append)
        if events < 10:
            with pytest.raises(SecondsourceError, match="2 events of 10 tokens"):
                await measuring
            return
        slices = await measuring
    assert [(found.engine, found.streams) for found in slices] == [
        ("peer", 1),
        ("ours", 1),
        ("peer", 8),
        ("ours", 8),
    ] * 2
    for found in slices:
        assert 0 < found.tokens_per_s < found.streams * 9 / (9 * 0.01) * 1.5
    assert len(said) == 12, "a round that is not counted comes first"


@pytest.mark.parametrize("body", [b'{"usage":{"prompt_tokens":300}}', b"gone wrong"])
async def test_a_prompt_is_read_anew_each_round_and_its_tokens_are_as_told(body: bytes) -> None:
    read: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
        read.append(msgspec.json.decode(await reader.readexactly(length))["prompt"])
        await asyncio.sleep(0.02)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + body)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        measuring = measure_prompts({"peer": url, "ours": url}, rounds=2, say=lambda _: None)
        if body.startswith(b"gone"):
            with pytest.raises(SecondsourceError, match="did not say how many tokens"):
                await measuring
            return
        slices = await measuring
    assert len({prompt[:3] for prompt in read}) == 3, "rounds that begin alike may be read from memory"
    assert all(0 < one.tokens_per_s < 300 / 0.02 for one in slices)
    rows = summarise_prompts(slices, "peer")
    assert [(row.engine, row.prompt_tokens) for row in rows] == [("peer", 300), ("ours", 300)]
    assert rows[0].ratio == 1.0
    assert f"| ours | 300 | {rows[1].tokens_per_s:.0f} (" in engines_section([], rows, "", "")
