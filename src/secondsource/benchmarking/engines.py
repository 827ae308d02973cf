"""Decode rates of two engines on one machine, measured in turn through the API that each of them serves."""

import asyncio
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from secondsource.core.errors import SecondsourceError

STREAMS = (1, 8)
PROMPT = "Once upon a time, in a village by the sea, there lived a keeper of"
_EVENT = b"data: {"
_COPIED_BYTES = 256 * 1024 * 1024


class EngineSlice(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement: so many streams at once at one engine, none at the other."""

    engine: str
    streams: int
    tokens_per_s: float  # of all streams together, without each one's first token
    first_token_s: float  # the median stream's


class EngineRow(msgspec.Struct, frozen=True, kw_only=True):
    """The medians of one engine's rounds; `ratio` is to the peer in the same run."""

    engine: str
    streams: int
    tokens_per_s: float
    lowest: float
    highest: float
    first_token_s: float
    ratio: float


async def measure_engines(
    engines: Mapping[str, str], *, rounds: int, tokens: int, say: Callable[[str], None]
) -> list[EngineSlice]:
    """Measure engines by name and URL, round after round, each in turn; one round before them is not counted."""
    slices = []
    for number in range(rounds + 1):
        for streams in STREAMS:
            for engine, url in engines.items():
                say(f"round {number} of {rounds}: {engine}, {streams} streams")
                one = await _slice(engine, url, streams, tokens)
                if number:
                    slices.append(one)
    return slices


def summarise_engines(slices: Iterable[EngineSlice], peer: str) -> list[EngineRow]:
    """Return the medians by engine and streams, with the ratio to the peer's."""
    rates: dict[tuple[str, int], list[EngineSlice]] = {}
    for one in slices:
        rates.setdefault((one.engine, one.streams), []).append(one)
    medians = {key: statistics.median(one.tokens_per_s for one in found) for key, found in rates.items()}
    return [
        EngineRow(
            engine=engine,
            streams=streams,
            tokens_per_s=medians[engine, streams],
            lowest=min(one.tokens_per_s for one in found),
            highest=max(one.tokens_per_s for one in found),
            first_token_s=statistics.median(one.first_token_s for one in found),
            ratio=medians[engine, streams] / medians[peer, streams],
        )
        for (engine, streams), found in rates.items()
    ]


def copied_bytes_per_s() -> float:
    """Return how many bytes of memory one thread reads a second while it copies them; the best of three."""
    source, target = bytearray(_COPIED_BYTES), bytearray(_COPIED_BYTES)
    took = []
    for _ in range(3):
        began = time.monotonic()
        target[:] = source
        took.append(time.monotonic() - began)
    return _COPIED_BYTES / min(took)


async def _slice(engine: str, url: str, streams: int, tokens: int) -> EngineSlice:
    times = await asyncio.gather(*(_stream(url, tokens, number) for number in range(streams)))
    return EngineSlice(
        engine=engine,
        streams=streams,
        tokens_per_s=sum((tokens - 1) / (last - first) for _, first, last in times),
        first_token_s=statistics.median(first - began for began, first, _ in times),
    )


async def _stream(url: str, tokens: int, number: int) -> tuple[float, float, float]:
    """Stream one completion; return when it was asked for, and when its first and last events came."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    body = msgspec.json.encode(
        {
            "prompt": f"{number}. {PROMPT}",
            "max_tokens": tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
        }
    )
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        began = time.monotonic()
        writer.write(
            b"POST /v1/completions HTTP/1.1\r\nhost: %b:%b\r\nconnection: close\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%b" % (host.encode(), port.encode(), len(body), body)
        )
        came = [time.monotonic() async for line in reader if line.startswith(_EVENT)]
    finally:
        writer.close()
        await writer.wait_closed()
    if len(came) < max(2, tokens // 2):  # a character of several tokens is one event
        raise SecondsourceError(f"{url} sent {len(came)} events of {tokens} tokens: it did not answer as it should")
    return began, came[0], came[-1]


def engines_section(rows: Sequence[EngineRow], bound: str, setting: str) -> str:
    """Return the section of BENCHMARKS.md: the table, and what bounds the rate."""
    heads = "| engine | streams | tokens/s (lowest to highest) | ratio | first token, s |"
    marks = "| --- | ---: | ---: | ---: | ---: |"
    lines = [
        f"| {row.engine} | {row.streams} | {row.tokens_per_s:.1f} ({row.lowest:.1f} to {row.highest:.1f}) "
        f"| {row.ratio:.2f} | {row.first_token_s:.3f} |"
        for row in rows
    ]
    return "\n".join(["## The engine beside llama.cpp", "", setting, "", heads, marks, *lines, "", bound])
