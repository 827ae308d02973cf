"""Put models through the compilers of chips, every pair as `secondsource port` does, and say how long that takes.

    python benchmarks/port_matrix.py [--models A,B,...] [--chips A,B,...] [--rows FILE.jsonl] [--at-once 2] [--most N]

Ten models and five chips unless told otherwise. Pairs that are done are kept in --rows, so that an interrupted run goes
on. Seconds of the processor are those of a pair's compilers; with more than one pair at once they are not told apart,
and only the sum is right.
"""

import argparse
import itertools
import os
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from secondsource.catalog.load import shipped_catalog
from secondsource.catalog.records import Catalog
from secondsource.core.errors import InputError
from secondsource.port.estimate import Ask, estimate
from secondsource.port.models import find_model
from secondsource.port.targets import find_chip

MODELS = (  # those that take longest first, so that no processor waits at the end
    "llama-3.1-70b,qwen3-32b,gemma-3-27b,qwen3-14b,llama-3.1-8b,gemma-3-4b,llama-3.2-1b,qwen3-0.6b,gemma-3-270m,"
    "smollm2-135m"
)
CHIPS = "tpu-v5e,tpu-v6e,tpu7x,h100-sxm,b200-sxm"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One pair, as it was answered."""

    model: str
    chip: str
    chips: int
    compiles: bool | None
    fits: bool | None
    gb_per_chip: float
    decode_step_s: float | None
    prefill_s: float | None
    wall_s: float
    processor_s: float  # of this process and the compilers since the pair began
    note: str = ""


def asked(model: str, chip: str, catalog: Catalog, today: str, say: Callable[[str], None]) -> Row:
    """Answer one pair."""
    began, spent = time.monotonic(), processor_s()
    empty = Row(
        model=model, chip=chip, chips=0, compiles=None, fits=None, gb_per_chip=0.0, decode_step_s=None, prefill_s=None,
        wall_s=0.0, processor_s=0.0,
    )  # fmt: skip
    try:
        context = min(4096, find_model(model).config.context_tokens)
        question = Ask(
            model=find_model(model), chip=find_chip(catalog, chip), context_tokens=context, prompt_tokens=context // 4
        )
        report = estimate(question, catalog, today, say)
        hbm = report.hbm_gb_per_chip
        empty = msgspec.structs.replace(
            empty,
            chips=report.chips,
            compiles=report.compiles,
            fits=report.fits,
            gb_per_chip=hbm.weights + hbm.cache + hbm.padding + hbm.temporaries,
            decode_step_s=report.decode_step_s,
            prefill_s=report.prefill_s,
            note="" if report.failure is None else report.failure.message[:200],
        )
    except InputError as error:
        empty = msgspec.structs.replace(empty, note=str(error))
    return msgspec.structs.replace(empty, wall_s=time.monotonic() - began, processor_s=processor_s() - spent)


def keep_to_one(processors: list[int]) -> None:
    """Bind the calling thread, and so the compilers that it starts, to a processor of its own, where there are enough.

    Two compilers on two processors, with the threads of each on both, took 70 s where each on its own took 50 s.
    """
    if processors:
        os.sched_setaffinity(0, {processors.pop()})


def processor_s() -> float:
    """Return the seconds of the processor that this process and its ended children have used."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in both)


def shown(row: Row) -> str:
    """Return a line of text."""
    answer = "no answer" if row.compiles is None else "fits" if row.fits else "does not fit" if row.compiles else "no"
    decode = "-" if row.decode_step_s is None else f"{row.decode_step_s * 1e3:.2f} ms"
    return (
        f"{row.model:14} {row.chips:3} x {row.chip:9} {answer:12} {row.gb_per_chip:6.1f} GB  decode {decode:>9}  "
        f"{row.wall_s:6.1f} s, {row.processor_s:6.1f} s of the processor  {row.note}"
    )


def main() -> int:
    """Answer every pair that is not done yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=MODELS)
    parser.add_argument("--chips", default=CHIPS)
    parser.add_argument("--rows", type=Path, default=Path("port_matrix.jsonl"))
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--most", type=int, metavar="N", help="end after so many pairs; the next run goes on")
    arguments = parser.parse_args()
    rows = []
    if arguments.rows.exists():
        rows = [msgspec.json.decode(line, type=Row) for line in arguments.rows.read_bytes().splitlines()]
    done = {(row.model, row.chip) for row in rows}
    pairs = [
        pair for pair in itertools.product(arguments.models.split(","), arguments.chips.split(",")) if pair not in done
    ][: arguments.most]
    today = datetime.now(UTC).date()
    catalog = shipped_catalog(today)
    began = time.monotonic()

    def one(pair: tuple[str, str]) -> Row:
        return asked(*pair, catalog, str(today), lambda text: None)

    ours = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    bound = ours[: arguments.at_once] if arguments.at_once >= len(ours) else []
    with (
        arguments.rows.open("ab") as file,
        ThreadPoolExecutor(arguments.at_once, initializer=keep_to_one, initargs=(bound,)) as pool,
    ):
        for answered in as_completed([pool.submit(one, pair) for pair in pairs]):
            row = answered.result()
            file.write(msgspec.json.encode(row) + b"\n")
            file.flush()
            sys.stdout.write(shown(row) + "\n")
            sys.stdout.flush()
    sys.stdout.write(f"{len(pairs)} pairs in {time.monotonic() - began:.0f} s, {processor_s():.0f} s of processors\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
