from collections.abc import Callable

import msgspec
import pytest

from secondsource.port.job import Answer, Fault, Job
from secondsource.port.measuring import measure
from tests.unit.port.fakes import FakeCompiler, ask, silent


def test_memory_decides_whether_it_fits() -> None:
    setup = ask().setup(2, 8)
    fits = measure(setup, silent, ("decode", "prefill"), FakeCompiler(temporaries_bytes=1000))
    assert fits.fits
    assert fits.compiles
    hungry = measure(
        setup, silent, ("decode", "prefill"), FakeCompiler(temporaries_bytes=setup.target.memory_bytes_per_device)
    )
    assert not hungry.fits
    assert hungry.compiles


def test_memory_is_carried_on_from_two_depths_of_full_slots() -> None:
    setup = ask(filled_tokens=1024, full_slots=True).setup(2, 8)  # 32 layers
    compiler = FakeCompiler(temporaries_bytes=1_000_000)
    found = measure(setup, silent, ("decode", "prefill"), compiler)
    (job,) = compiler.jobs
    assert [[depth.layers for depth in depths.compiled] for _, depths in job.programs] == [[4, 8], [1, 2], [8]]
    assert found.temporaries_bytes == 1_000_032  # a byte a layer, on the line
    assert {step.arguments_bytes for step in found.steps} == {32_000}


def test_where_the_compiler_says_what_it_assigns_memory_is_taken_from_that() -> None:
    setup = ask(filled_tokens=1024, full_slots=True).setup(2, 8)  # 32 layers
    compiler = FakeCompiler(temporaries_bytes=1_000_000, assigns=True)
    found = measure(setup, silent, ("decode", "prefill"), compiler)
    (job,) = compiler.jobs
    assert [[depth.layers for depth in depths.assigned] for _, depths in job.programs] == [[4], [32], []]
    # 8 and 2 layers were compiled: what they take, 10 bytes for each more layer, 100 of code for every one
    decode, prefill = found.full_decode, found.step("prefill")
    assert decode is not None
    assert prefill is not None
    assert decode.temporaries_bytes == 1_000_000 + 8 + 24 * 10 + 32 * 100
    assert prefill.temporaries_bytes == 1_000_000 + 2 + 30 * 10 + 32 * 100
    twice = measure(setup, silent, ("decode", "prefill"), FakeCompiler()).step("prefill")
    assert twice is not None
    assert twice.timed is not None
    assert prefill.timed is not None
    assert prefill.timed.seconds == pytest.approx(twice.timed.seconds)


def test_full_slots_that_are_not_timed_are_asked_for_their_memory() -> None:
    setup = ask(filled_tokens=1024).setup(2, 8)
    compiler = FakeCompiler(temporaries_bytes=1_000_000, assigns=True)
    found = measure(setup, silent, ("decode", "prefill"), compiler)
    (job,) = compiler.jobs
    looked_at = [([each.layers for each in depths.compiled], len(depths.assigned)) for _, depths in job.programs]
    assert looked_at == [([], 2), ([1, 2], 1), ([8], 0)]
    full, filled = found.full_decode, found.step("decode")
    assert full is not None
    assert full.timed is None
    assert filled is not None
    assert filled.timed is not None
    assert full.arguments_bytes == 32_000
    # of slots filled to a quarter 8 layers were compiled: 250,008 bytes of temporaries, 80 of them assigned
    assert full.temporaries_bytes == 250_008 - 80 + 32 * 10 + 32 * 100
    kept = measure(msgspec.structs.replace(setup, whole=True), silent, ("decode",), FakeCompiler())
    assert kept.full_decode is not None
    assert kept.full_decode.timed is not None


def test_heads_narrower_than_the_lanes_are_timed_with_full_slots() -> None:
    setup = ask("llama-3.2-1b", filled_tokens=1024).setup(1, 8)
    assert setup.config.head_width == 64
    compiler = FakeCompiler(assigns=True)
    step = measure(setup, silent, ("decode", "prefill"), compiler).step("decode")
    assert step is not None
    assert step.filled_tokens == 0
    assert [program.filled_tokens for program, _ in compiler.jobs[0].programs] == [0, 0]


def test_of_two_decode_steps_the_quicker_counts() -> None:
    setup = ask(filled_tokens=1024, full_slots=True).setup(2, 8)
    found = measure(setup, silent, ("decode",), FakeCompiler())
    step = found.step("decode")
    assert step is not None
    assert step.filled_tokens == 1024
    slower = msgspec.structs.replace(
        step, timed=msgspec.structs.replace(step.timed, seconds=1.0) if step.timed is not None else None
    )
    full = found.full_decode
    assert full is not None
    assert msgspec.structs.replace(found, steps=(full, slower)).step("decode") == full


def test_what_does_not_fit_has_its_time_told_all_the_same() -> None:
    setup = ask(filled_tokens=1024, full_slots=True).setup(2, 8)
    compiler = FakeCompiler(assigns=True)

    def too_large(job: Job, seconds: float, say: Callable[[str], None]) -> Answer:
        fault = Fault(kind="memory", program=job.programs[-1][0], message="exceeds available HBM")
        return Answer(compiler(job, seconds, say).compiled, fault)

    found = measure(setup, silent, ("decode", "prefill"), too_large)
    assert not found.fits
    assert found.compiles
    assert found.full_decode is not None
    assert found.full_decode.timed is not None
    assert found.step("prefill") is not None


def test_layers_that_cannot_be_told_apart_are_timed_from_two_depths() -> None:
    setup = ask(filled_tokens=4096, full_slots=True).setup(2, 8)
    known = measure(setup, silent, ("decode",), FakeCompiler()).step("decode")
    unknown = measure(setup, silent, ("decode",), FakeCompiler(ends=False)).step("decode")
    assert known is not None
    assert known.timed is not None
    assert unknown is not None
    assert unknown.timed is not None
    assert unknown.timed.seconds == pytest.approx(known.timed.seconds)


@pytest.mark.parametrize(
    ("kind", "compiles", "fits"),
    [("refused", False, True), ("memory", True, False), ("crashed", None, True), ("time", None, True)],
)
def test_faults_become_verdicts(kind: str, compiles: bool | None, fits: bool) -> None:
    fault = Fault(kind=kind, program=None, message="no")  # type: ignore[arg-type]
    found = measure(ask().setup(2, 8), silent, ("decode",), FakeCompiler(fault=fault))
    assert found.compiles is compiles
    assert found.fits is fits
