"""`secondsource bench engine`: our engine's decode rate beside llama.cpp's, on one model, in one run."""

import argparse
import asyncio
import contextlib
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from secondsource.benchmarking.engines import (
    STREAMS,
    EngineRow,
    EngineSlice,
    PromptRow,
    PromptSlice,
    copied_bytes_per_s,
    engines_section,
    measure_engines,
    measure_prompts,
    summarise_engines,
    summarise_prompts,
)
from secondsource.benchmarking.machine import describe_machine
from secondsource.benchmarking.markdown import NEW_PAGE, replace_section
from secondsource.cli.plan_progress import Progress
from secondsource.cli.screen import Screen
from secondsource.cli.up_embedded import require_llamacpp
from secondsource.core.errors import InputError
from secondsource.embedded.default_fleet import Sizing, engine_reads
from secondsource.embedded.gguf import GgufFacts, read_gguf
from secondsource.embedded.machine import usable_cores
from secondsource.embedded.model import DEFAULT_MODEL, default_model, model_cache_directory
from secondsource.embedded.ports import choose_free_ports
from secondsource.embedded.supervisor import Supervisor, engine_source, llamacpp_source

PEER, OURS = "llama.cpp", "secondsource.engine"
_CONTEXT_TOKENS = 512
_READY_S = 600.0
_AIM = 0.5


def run(arguments: argparse.Namespace) -> int:
    """Measure, print, write; 0, or 1 where our engine has less than half of the peer's rate. Raises InputError."""
    require_llamacpp()
    if arguments.rounds < 1 or arguments.tokens < 8:
        raise InputError("--rounds must be at least 1 and --tokens at least 8")
    path = arguments.model or default_model(
        DEFAULT_MODEL, model_cache_directory(), environ=os.environ, listener=Screen()
    )
    facts = read_gguf(path)
    if not engine_reads(facts):
        raise InputError(f"{path}: the engine does not take a {facts.architecture} model of {facts.file_bytes} bytes")
    threads = arguments.threads or usable_cores()
    with Progress() as progress:
        slices, read = asyncio.run(_measure(path, threads, arguments, progress))
        progress.say("copying memory")
        copied = copied_bytes_per_s()
    rows, prompts = summarise_engines(slices, PEER), summarise_prompts(read, PEER)
    _tell(arguments, rows, prompts, _bound(facts, rows, copied), path, threads)
    return 0 if all(row.ratio >= _AIM for row in rows if row.engine == OURS) else 1


async def _measure(
    path: Path, threads: int, arguments: argparse.Namespace, progress: Progress
) -> tuple[list[EngineSlice], list[PromptSlice]]:
    async with _two_engines(path, threads, progress) as (first, second):
        engines = {PEER: first, OURS: second}
        slices = await measure_engines(engines, rounds=arguments.rounds, tokens=arguments.tokens, say=progress.say)
        return slices, await measure_prompts(engines, rounds=arguments.rounds, say=progress.say)


@contextlib.asynccontextmanager
async def _two_engines(path: Path, threads: int, progress: Progress) -> AsyncIterator[tuple[str, str]]:
    """Run both engines, each with all of the threads: one idles while the other is measured."""
    sizing = Sizing(slots=max(STREAMS), context_per_slot=_CONTEXT_TOKENS, threads=threads)
    ports = choose_free_ports(2)
    with tempfile.TemporaryDirectory() as logs:
        sources = [
            make(name=name, port=port, model=path, alias="model", sizing=sizing, log=Path(logs) / name)
            for make, name, port in zip((llamacpp_source, engine_source), (PEER, OURS), ports, strict=True)
        ]
        supervisor = Supervisor(sources, lambda change: progress.say(f"{change.name}: {change.detail}"))
        await supervisor.start()
        try:
            async with asyncio.timeout(_READY_S):
                await supervisor.settle()
            yield f"http://127.0.0.1:{ports[0]}", f"http://127.0.0.1:{ports[1]}"
        finally:
            await supervisor.stop()


def _bound(facts: GgufFacts, rows: Sequence[EngineRow], copied: float) -> str:
    """Return in words what the rate amounts to in bytes of weights read, beside what memory gives."""
    (alone,) = [row for row in rows if (row.engine, row.streams) == (PEER, 1)]
    read = facts.file_bytes * alone.tokens_per_s
    return (
        f"A token reads every weight once: {facts.file_bytes / 1e6:.0f} MB as the file has them, which llama.cpp "
        f"computes with as they are ({read / 1e9:.1f} GB/s at one stream). One thread copies {copied / 1e9:.1f} GB/s "
        "on this machine."
    )


def _tell(
    arguments: argparse.Namespace,
    rows: Sequence[EngineRow],
    prompts: Sequence[PromptRow],
    bound: str,
    path: Path,
    threads: int,
) -> None:
    command = f"secondsource bench engine --rounds {arguments.rounds} --tokens {arguments.tokens}"
    setting = f"{datetime.now(UTC):%Y-%m-%d}, {describe_machine()}; {path.name}, {threads} threads each; `{command}`"
    if arguments.write is not None:
        page = arguments.write.read_text("utf-8") if arguments.write.exists() else NEW_PAGE
        section = engines_section(rows, prompts, bound, setting)
        arguments.write.write_text(replace_section(page, "bench engine", section), "utf-8")
    if arguments.json:
        document = {"setting": setting, "rows": rows, "prompts": prompts, "bound": bound}
        sys.stdout.write(msgspec.json.encode(document).decode() + "\n")
        return
    table = Table(title=f"decode rate, {path.name}, {threads} threads each", title_justify="left")
    for name in ("engine", "streams", "tokens/s", "lowest", "highest", "ratio", "first token, s"):
        table.add_column(name, justify="left" if name == "engine" else "right")
    for row in rows:
        rates = (f"{value:.1f}" for value in (row.tokens_per_s, row.lowest, row.highest))
        table.add_row(row.engine, str(row.streams), *rates, f"{row.ratio:.2f}", f"{row.first_token_s:.3f}")
    console = Console()
    console.print(table)
    for prompt in prompts:
        console.print(
            f"{prompt.engine} reads a prompt of {prompt.prompt_tokens} tokens at {prompt.tokens_per_s:.0f} tokens/s "
            f"({prompt.ratio:.2f})"
        )
    console.print(bound)
