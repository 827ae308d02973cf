"""Decode rates of two engines on one machine, measured in turn through the API that each of them serves."""

import asyncio
import contextlib
import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

import msgspec

from secondsource.core.errors import SecondsourceError

STREAMS = (1, 8)
PROMPT = "Once upon a time, in a village by the sea, there lived a keeper of"
_EVENT = b"data: {"
_PROMPT_REPEATS = 24  # some 400 tokens: what both engines' slots hold in `bench engine`
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


class PromptSlice(msgspec.Struct, frozen=True, kw_only=True):
    """One long prompt read by one engine, with nothing else to do."""

    engine: str
    prompt_tokens: int
    tokens_per_s: float  # of the prompt; one token of the answer is made in the same time


class PromptRow(msgspec.Struct, frozen=True, kw_only=True):
    """The medians of one engine's prompts; `ratio` is to the peer in the same run."""

    engine: str
    prompt_tokens: int
    tokens_per_s: float
    lowest: float
    highest: float
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


async def measure_prompts(engines: Mapping[str, str], *, rounds: int, say: Callable[[str], None]) -> list[PromptSlice]:
    """Have each engine read a long prompt, round after round; one round before them is not counted."""
    slices = []
    for number in range(rounds + 1):
        for engine, url in engines.items():
            say(f"round {number} of {rounds}: {engine}, a long prompt")
            one = await _read_prompt(engine, url, number)
            if number:
                slices.append(one)
    return slices


def summarise_prompts(slices: Iterable[PromptSlice], peer: str) -> list[PromptRow]:
    """Return the medians by engine, with the ratio to the peer's."""
    rates: dict[str, list[PromptSlice]] = {}
    for one in slices:
        rates.setdefault(one.engine, []).append(one)
    medians = {engine: statistics.median(one.tokens_per_s for one in found) for engine, found in rates.items()}
    return [
        PromptRow(
            engine=engine,
            prompt_tokens=found[0].prompt_tokens,
            tokens_per_s=medians[engine],
            lowest=min(one.tokens_per_s for one in found),
            highest=max(one.tokens_per_s for one in found),
            ratio=medians[engine] / medians[peer],
        )
        for engine, found in rates.items()
    ]


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
    body = {"prompt": f"{number}. {PROMPT}", "max_tokens": tokens, "temperature": 0, "ignore_eos": True, "stream": True}
    async with _asked(url, body) as (began, reader):
        came = [time.monotonic() async for line in reader if line.startswith(_EVENT)]
    if len(came) < max(2, tokens // 2):  # a character of several tokens is one event
        raise SecondsourceError(f"{url} sent {len(came)} events of {tokens} tokens: it did not answer as it should")
    return began, came[0], came[-1]


async def _read_prompt(engine: str, url: str, number: int) -> PromptSlice:
    # The beginning differs from round to round: else an engine that keeps prompts would not read it.
    prompt = f"{number + 1} times. " + f"{PROMPT} {number}. " * _PROMPT_REPEATS
    async with _asked(url, {"prompt": prompt, "max_tokens": 1, "temperature": 0}) as (began, reader):
        answer = await reader.read()
        took = time.monotonic() - began
    try:
        read = msgspec.json.decode(answer.partition(b"\r\n\r\n")[2], type=_Answer).usage.prompt_tokens
    except msgspec.DecodeError as error:
        raise SecondsourceError(f"{url} did not say how many tokens it read: {error}") from error
    return PromptSlice(engine=engine, prompt_tokens=read, tokens_per_s=read / took)


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int


class _Answer(msgspec.Struct, frozen=True):
    usage: _Usage


@contextlib.asynccontextmanager
async def _asked(url: str, body: object) -> AsyncIterator[tuple[float, asyncio.StreamReader]]:
    """Ask for a completion; gives when that was, and what comes."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    encoded = msgspec.json.encode(body)
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        began = time.monotonic()
        writer.write(
            b"POST /v1/completions HTTP/1.1\r\nhost: %b:%b\r\nconnection: close\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%b" % (host.encode(), port.encode(), len(encoded), encoded)
        )
        yield began, reader
    finally:
        writer.close()
        await writer.wait_closed()


def engines_section(rows: Sequence[EngineRow], prompts: Sequence[PromptRow], bound: str, setting: str) -> str:
    """Return the section of BENCHMARKS.md: the tables, and what bounds the rate."""
    heads = "| engine | streams | tokens/s (lowest to highest) | ratio | first token, s |"
    marks = "| --- | ---: | ---: | ---: | ---: |"
    lines = [
        f"| {row.engine} | {row.streams} | {row.tokens_per_s:.1f} ({row.lowest:.1f} to {row.highest:.1f}) "
        f"| {row.ratio:.2f} | {row.first_token_s:.3f} |"
        for row in rows
    ]
    reading = [
        f"| {row.engine} | {row.prompt_tokens} | {row.tokens_per_s:.0f} ({row.lowest:.0f} to {row.highest:.0f}) "
        f"| {row.ratio:.2f} |"
        for row in prompts
    ]
    heads_reading = "| engine | tokens of a prompt | read tokens/s (lowest to highest) | ratio |"
    tables = [heads, marks, *lines, "", heads_reading, "| --- | ---: | ---: | ---: |", *reading]
    return "\n".join(["## The engine beside llama.cpp", "", setting, "", *tables, "", bound])
