"""What `secondsource port` does once its arguments are read."""

import argparse
import importlib.util
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import msgspec
from rich.console import Console

from secondsource.catalog.load import load_catalog
from secondsource.catalog.records import Chip
from secondsource.cli import port_text
from secondsource.cli.plan_progress import Progress
from secondsource.core.errors import InputError
from secondsource.port.estimate import Ask, estimate
from secondsource.port.models import NamedModel, find_model
from secondsource.port.profile import expected_decode_s
from secondsource.port.report import Report
from secondsource.port.targets import find_chip, is_gpu
from secondsource.profiles.compiled import CompiledProfile, profile_directory, store_compiled

PIPED_WIDTH = 160  # a pipe has no width of its own


def run(arguments: argparse.Namespace) -> int:
    """Compile, print, store; 0 where a chip asked for compiles and holds the model, 1 where none does."""
    _check(arguments)
    today = datetime.now(UTC).date()
    catalog = load_catalog(None, today)
    model = find_model(arguments.model)
    names = (arguments.compare or arguments.chip).split(",")
    chips = [find_chip(catalog, name.strip()) for name in names]
    for chip in chips:
        _require_compiler_of(chip)
    reports = []
    with Progress() as progress:
        for chip in chips:
            progress.say(f"{model.name} on {chip.name}")
            reports.append(estimate(_ask(arguments, model, chip), catalog, str(today), progress.say))
    for chip, report in zip(chips, reports, strict=True):
        _store(report, model, chip, arguments.profiles, today)
    _print(arguments, reports)
    return 0 if any(report.yes for report in reports) else 1


def _check(arguments: argparse.Namespace) -> None:
    """Refuse at once what would fail after minutes of compiling."""
    if arguments.seconds <= 0:
        raise InputError(f"--seconds {arguments.seconds:g}: expected more than 0")
    if arguments.picture is not None and not arguments.picture.resolve().parent.is_dir():
        raise InputError(f"--picture {arguments.picture}: there is no directory {arguments.picture.resolve().parent}")
    if arguments.save_executable is not None:
        try:
            arguments.save_executable.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"--save-executable {arguments.save_executable}: a directory that can be written was expected: {error}"
            ) from None


def _require_compiler_of(chip: Chip) -> None:
    module = "jax_plugins.xla_cuda12" if is_gpu(chip) else "libtpu"
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        found = None
    if found is None:
        extra = "port-cuda" if is_gpu(chip) else "port"
        raise InputError(
            f"compiling for {chip.name} needs its compiler: pip install 'secondsource[{extra}]'; docs/port.md"
        )


def _ask(arguments: argparse.Namespace, model: NamedModel, chip: Chip) -> Ask:
    save = arguments.save_executable
    return Ask(
        model=model,
        chip=chip,
        chips=arguments.chips,
        batch=arguments.batch,
        context_tokens=arguments.context,
        prompt_tokens=max(1, arguments.context // 4) if arguments.prompt is None else arguments.prompt,
        filled_tokens=arguments.filled,
        full_slots=arguments.full_slots,
        weights=arguments.weights,
        cache=arguments.cache,
        data_parallel=arguments.data_parallel,
        ttft_s=arguments.ttft,
        tpot_s=arguments.tpot,
        whole=arguments.whole,
        save_to="" if save is None else str(save.resolve()),
        seconds=arguments.seconds,
    )


def _store(report: Report, model: NamedModel, chip: Chip, directory: Path | None, today: date) -> None:
    """Keep a compiled step for the planner; where nothing was compiled or nothing fits there is none."""
    if report.figures != "step" or report.decode_step_s is None or not report.yes:
        return
    error = report.error["decode_step_s"]
    profile = CompiledProfile(
        model=model.architecture.name,
        chip=chip.name,
        precision=report.weights,
        factor=report.decode_step_s / expected_decode_s(report, model, chip),
        median=error.median,
        p90=error.p90,
        chips=report.chips,
        batch=report.batch,
        context_tokens=report.filled_tokens,
        decode_step_s=report.decode_step_s,
        compiler=report.compiler,
        as_of=today,
    )
    store_compiled(profile, directory or profile_directory())


def _print(arguments: argparse.Namespace, reports: list[Report]) -> None:
    if arguments.json:
        answer = reports if arguments.compare else reports[0]
        sys.stdout.write(msgspec.json.Encoder(decimal_format="number").encode(answer).decode() + "\n")
    console = Console(record=arguments.picture is not None, quiet=arguments.json and arguments.picture is None)
    if not console.is_terminal:
        console = Console(
            width=PIPED_WIDTH, record=arguments.picture is not None, file=sys.stderr if arguments.json else sys.stdout
        )
    if not arguments.json or arguments.picture is not None:
        if len(reports) == 1:
            port_text.show(console, reports[0])
        else:
            port_text.show_side_by_side(console, reports)
    if arguments.picture is not None:
        console.save_svg(str(arguments.picture), title=f"secondsource port {arguments.model}")
