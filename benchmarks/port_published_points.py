"""Hold what `secondsource port` reckons against published step times and served figures, row by row.

    python benchmarks/port_published_points.py DIRECTORY [--rows FILE.jsonl] [--decode-only] [--most ROWS]

DIRECTORY holds tpu_step_times.csv, tpu_served.csv and tpu_published_llm.csv (their columns and sources are in
docs/port.md; they are not ours to ship). Every row gets its ratio, estimate over published. No constant is fitted:
what comes out is written into src/secondsource/port/data/accuracy.toml and the tables of docs/port.md. Rows that are
done are kept in --rows, so that an interrupted run goes on.

TTFT under load is queueing and is not compared. A served time per token is an engine's and not a step's: its ratio is
given beside, and says what engines add.
"""

import argparse
import csv
import itertools
import math
import statistics
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from secondsource.catalog.load import shipped_catalog
from secondsource.core.errors import InputError
from secondsource.port.job import Step, Weights
from secondsource.port.measuring import Measured, Setup, Stepped, measure
from secondsource.port.models import find_model
from secondsource.port.placing import choose_placing
from secondsource.port.targets import find_chip, make_target

HERE = Path(__file__).resolve().parents[1]
ACCURACY = HERE / "src" / "secondsource" / "port" / "data" / "accuracy.toml"
DOCUMENT = HERE / "docs" / "port.md"
BEGIN, END = "<!-- rows: begin -->", "<!-- rows: end -->"
# Neither the length of the published prompts nor how far the slots were filled is published; the kernel reads only what
# is filled. Prompts are padded to a power of two, and one of 1,024 tokens would need more than the data sheet's peak.
PROMPT, FILLED = 512, 1024
SERVED_PROMPT = 1024
TITLES = {
    "decode": "Decode steps, full slots",
    "decode-filled": f"Decode steps, {FILLED:,} tokens in each slot",
    "prefill": f"Prefills, prompts of {PROMPT} tokens",
    "served": "Served time per token",
}
CHIPS = {"tpu-v7x-ironwood": "tpu7x"}


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One published figure, and ours."""

    key: str
    figure: str  # decode | decode-filled | prefill | served
    chip: str
    what: str
    published_s: float
    estimated_s: float | None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Estimate over published."""
        return None if self.estimated_s is None else self.estimated_s / self.published_s


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """A setup to compile, and the published figures that it answers."""

    model: str
    chip: str
    chips: int
    batch: int
    context: int
    weights: Weights
    prompt: int
    filled: int = 0
    data_parallel: int | None = None


def measured(point: Point, steps: tuple[Step, ...]) -> Measured:
    """Compile one point; raises InputError where the portable model cannot express it."""
    catalog = shipped_catalog(datetime.now(UTC).date())
    target = make_target(find_chip(catalog, point.chip), point.chips)
    config = find_model(point.model).config
    setup = Setup(
        config=config,
        weights=point.weights,
        cache=point.weights,
        target=target,
        placing=choose_placing(config, target.devices, point.batch, point.data_parallel),
        batch=point.batch,
        context_tokens=point.context,
        filled_tokens=point.filled,
        prompt_tokens=min(point.prompt, point.context // 2),
        chunk_tokens=512,
    )
    return measure(setup, _say, steps)


def _say(text: str) -> None:
    sys.stderr.write(f"    {text}\n")


def seconds(stepped: Stepped | None, times: int = 1) -> float | None:
    """Return the seconds of so many steps, where there are any."""
    return None if stepped is None or stepped.timed is None else times * stepped.timed.seconds


def prompt_seconds(found: Measured) -> float | None:
    """Return the seconds of a whole prompt."""
    return seconds(found.step("prefill"), math.ceil(found.setup.prompt_tokens / found.setup.chunk_tokens))


def step_rows(directory: Path, decode_only: bool, done: set[str]) -> Iterator[Row]:
    """Yield a row for each published step time."""
    prompts: dict[int, float | None] = {}
    for line in table(directory / "tpu_step_times.csv"):
        data, batch, context = int(line["data_parallel"]), int(line["batch"]), int(line["context_tokens"])
        key = f"step-{data}-{batch}-{context}"
        point = Point(
            model=line["model"], chip=line["chip"], chips=int(line["chips"]), batch=batch, context=context,
            weights="int8", prompt=PROMPT, filled=FILLED, data_parallel=data,
        )  # fmt: skip
        what = f"{line['model']} int8, {data} x {line['tensor_parallel']}, batch {batch}, context {context}"
        figures = [figure for figure in ("decode", "decode-filled") if f"{key}-{figure}" not in done]
        if figures:
            found = measured(point, ("decode",))
            step = 1 / float(line["decode_steps_per_s"])
            for figure in figures:
                stepped = found.full_decode if figure == "decode" else found.step("decode")
                yield Row(
                    key=f"{key}-{figure}", figure=figure, chip=line["chip"], what=what, published_s=step,
                    estimated_s=seconds(stepped), note=_note(found),
                )  # fmt: skip
        if not decode_only and f"{key}-prefill" not in done:
            if data not in prompts:
                prompts[data] = prompt_seconds(measured(point, ("prefill",)))
            one = prompts[data]
            yield Row(
                key=f"{key}-prefill", figure="prefill", chip=line["chip"], what=what,
                published_s=float(line["prefill_s"]), estimated_s=None if one is None else one * batch / data,
            )  # fmt: skip


def served_rows(directory: Path, done: set[str]) -> Iterator[Row]:
    """Yield a row for each served rate: the mean time per output token that it comes to."""
    for name in ("tpu_served.csv", "tpu_published_llm.csv"):
        for number, line in enumerate(table(directory / name)):
            key = f"{name}-{number}"
            if key in done or not line["concurrency"] or not line["out_tok_s_total"]:
                continue
            batch, inputs, outputs = int(float(line["concurrency"])), int(line["isl"]), int(line["osl"])
            per_token = batch / float(line["out_tok_s_total"])
            chip = CHIPS.get(line["chip"], line["chip"])
            where = f"{line['model']}, {line['chips']} x {chip}"
            what = f"{where}, {batch} at once, {inputs} in, {outputs} out ({line['engine']})"
            row = Row(key=key, figure="served", chip=chip, what=what, published_s=per_token, estimated_s=None)
            # Slots are as full, on average, as a sequence half way through its answer.
            point = Point(
                model=line["model"], chip=chip, chips=int(line["chips"]), batch=batch,
                context=_rounded(inputs + outputs // 2), weights="bf16", prompt=SERVED_PROMPT,
            )  # fmt: skip
            try:
                found = measured(point, ("decode", "prefill"))
            except InputError as error:
                yield msgspec.structs.replace(row, note=str(error).split(";", maxsplit=1)[0])
                continue
            yield msgspec.structs.replace(row, estimated_s=_per_token(found, inputs, outputs), note=_note(found))


def _rounded(tokens: int) -> int:
    return max(256, math.ceil(tokens / 128) * 128)


def _per_token(found: Measured, inputs: int, outputs: int) -> float | None:
    decode, prefill = seconds(found.step("decode")), prompt_seconds(found)
    if decode is None or prefill is None:
        return None
    return decode + found.setup.batch * prefill * (inputs / found.setup.prompt_tokens) / outputs


def _note(found: Measured) -> str:
    if found.fault is not None:
        return f"{found.fault.kind}: {found.fault.message[:100]}"
    return "" if found.fits else "does not fit"


def table(path: Path) -> list[dict[str, str]]:
    """Return a CSV file's lines."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write(rows: list[Row]) -> None:
    """Write the accuracies and the tables."""
    today = datetime.now(UTC).date()
    text = ["# Written by benchmarks/port_published_points.py; do not edit.", ""]
    for figure in ("decode", "decode-filled", "prefill"):
        errors = [abs(row.ratio - 1) for row in rows if row.figure == figure and row.ratio is not None]
        if not errors:
            continue
        text += [
            "[[accuracies]]",
            f'figure = "{figure}"',
            'chip = "tpu-v5e"',
            f"median = {statistics.median(errors):.3f}",
            f"p90 = {sorted(errors)[math.ceil(0.9 * len(errors)) - 1]:.3f}",
            f"points = {len(errors)}",
            f'source = "step times of jax-ml/jax-llm-examples@8b4b246, compared {today}"',
            "",
        ]
    if len(text) == 2:
        text += ["accuracies = []", ""]
    ACCURACY.write_text("\n".join(text), "utf-8")
    before, _, rest = DOCUMENT.read_text("utf-8").partition(BEGIN)
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{tables(rows, str(today))}\n{END}{rest.partition(END)[2]}", "utf-8")


def tables(rows: list[Row], today: str) -> str:
    """Return the rows as Markdown, a table for each figure."""
    lines = []
    for figure, title in TITLES.items():
        chosen = [row for row in rows if row.figure == figure]
        if not chosen:
            continue
        ratios = [row.ratio for row in chosen if row.ratio is not None]
        errors = [abs(ratio - 1) for ratio in ratios]
        lines += [
            f"{title}, {today}:",
            "",
            "| published point | published | estimated | ratio |",
            "| --- | ---: | ---: | ---: |",
        ]
        for row in chosen:
            ours = "-" if row.estimated_s is None else f"{row.estimated_s * 1e3:.2f} ms"
            ratio = (
                row.note or "-" if row.ratio is None else f"{row.ratio:.2f}" + (f" ({row.note})" if row.note else "")
            )
            lines.append(f"| {row.what} | {row.published_s * 1e3:.2f} ms | {ours} | {ratio} |")
        if errors:
            middle, mean = statistics.median(errors), statistics.mean(errors)
            lines.append("")
            lines.append(f"Error: {middle:.0%} in the median, {mean:.0%} on average, {max(errors):.0%} at worst.")
        lines.append("")
    return "\n".join(lines)


def main() -> int:
    """Compile every row, then write what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--rows", type=Path, default=Path("port_rows.jsonl"))
    parser.add_argument("--decode-only", action="store_true")
    parser.add_argument("--most", type=int, help="end after so many rows; the next run goes on")
    parser.add_argument("--write-only", action="store_true", help="compile nothing; write the rows that are done")
    arguments = parser.parse_args()
    rows = []
    if arguments.rows.exists():
        rows = [msgspec.json.decode(line, type=Row) for line in arguments.rows.read_bytes().splitlines()]
    done = {row.key for row in rows}
    if arguments.write_only:
        write(sorted(rows, key=lambda row: row.key))
        return 0
    with arguments.rows.open("ab") as file:
        every = itertools.chain(
            step_rows(arguments.directory, arguments.decode_only, done), served_rows(arguments.directory, done)
        )
        for row in itertools.islice(every, arguments.most):
            rows.append(row)
            file.write(msgspec.json.encode(row) + b"\n")
            file.flush()
            _say(f"{row.ratio or 0:.3f}  {row.figure}  {row.what}  {row.note}")
    write(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
