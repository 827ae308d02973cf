"""The chips' own compilers, on a tiny model: what the port's arithmetic stands on."""

import importlib.util
from datetime import date

import msgspec
import pytest

from secondsource.catalog.load import shipped_catalog
from secondsource.port.compiling import run_compile
from secondsource.port.estimate import Ask
from secondsource.port.job import Depth, Depths, Job, Program
from secondsource.port.measuring import measure
from secondsource.port.models import find_model
from secondsource.port.targets import find_chip, make_target

CATALOG = shipped_catalog(date.max)
needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None,
    reason="NO TPU COMPILER HERE: pip install 'secondsource[port]' to run what the port's memory and time stand on",
)


@needs_libtpu
@pytest.mark.parametrize("chip", ["tpu-v4", "tpu-v5e", "tpu-v5p", "tpu-v6e", "tpu7x"])
def test_a_tiny_model_compiles_for_every_tpu(chip: str) -> None:
    ask = Ask(model=find_model("smollm2-135m"), chip=find_chip(CATALOG, chip), context_tokens=512, prompt_tokens=128)
    setup = ask.setup(1, 8)
    shallow = msgspec.structs.replace(setup, config=msgspec.structs.replace(setup.config, layers=2))
    found = measure(shallow, lambda _: None, ("decode",))
    assert found.fault is None
    step = found.step("decode")
    assert step is not None
    assert step.timed is not None
    assert 1e-6 < step.timed.seconds < 0.1
    assert found.fits


@needs_libtpu
def test_what_is_too_large_is_refused_in_the_compiler_s_own_words() -> None:
    model = find_model("llama-3.1-405b")
    program = Program(step="decode", sequences=8, context_tokens=1024)
    job = Job(
        config=model.config, weights="bf16", target=make_target(find_chip(CATALOG, "tpu-v5e"), 1), data_parallel=1,
        programs=((program, Depths((Depth(4),))),),
    )  # fmt: skip
    answer = run_compile(job, 240, lambda _: None)
    assert answer.fault is not None
    assert answer.fault.kind == "memory", answer.fault
