from datetime import date
from pathlib import Path

import pytest

from secondsource.catalog.load import shipped_catalog
from secondsource.port.job import Job
from secondsource.port.models import find_model
from secondsource.port.program import compiler_options
from secondsource.port.targets import find_chip, make_target

CATALOG = shipped_catalog(date.max)


def job(chip: str, save_to: str = "") -> Job:
    target = make_target(find_chip(CATALOG, chip), 1)
    config = find_model("smollm2-135m").config
    return Job(config=config, weights="bf16", target=target, data_parallel=1, programs=(), save_to=save_to)


def test_a_program_that_is_kept_gets_every_pass(tmp_path: Path) -> None:
    looked_at, kept = compiler_options(job("tpu7x"), tmp_path), compiler_options(job("tpu7x", "kept"), tmp_path)
    assert looked_at is not None
    assert kept is not None
    assert set(looked_at) - set(kept) == {"xla_jf_llvm_flags"}


@pytest.mark.parametrize("chip", ["tpu-v5e", "tpu-v6e", "tpu7x"])
def test_every_tpu_is_told_to_write_its_assignment(chip: str, tmp_path: Path) -> None:
    options = compiler_options(job(chip), tmp_path)
    assert options is not None
    assert options["xla_dump_to"] == str(tmp_path)


def test_a_compiler_that_assigns_nothing_is_told_nothing(tmp_path: Path) -> None:
    assert compiler_options(job("h100-sxm"), tmp_path) is None
