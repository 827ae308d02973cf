import pytest

from secondsource.port.job import Fault
from secondsource.port.measuring import measure
from tests.unit.port.fakes import FakeCompiler, ask, held, silent


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


def test_what_surely_fits_is_compiled_once_and_its_temporaries_are_a_bound() -> None:
    setup = ask().setup(2, 8)  # 32 layers: a decode step is compiled with 8, a prefill with 1 and 2
    compiler = FakeCompiler(temporaries_bytes=1_000_000)
    found = measure(setup, silent, ("decode", "prefill"), compiler)
    assert len(compiler.jobs) == 1
    assert [step.bound for step in found.steps] == [True, False, True]
    assert found.temporaries_bytes == 4 * 1_000_008
    assert {step.arguments_bytes for step in found.steps} == {32_000}


def test_a_bound_too_high_is_replaced_by_a_line() -> None:
    setup = ask().setup(2, 8)
    room = setup.target.memory_bytes_per_device - held(setup)
    compiler = FakeCompiler(temporaries_bytes=room // 3)
    found = measure(setup, silent, ("decode", "prefill"), compiler)
    assert [[depth.layers for _, depths in job.programs for depth in depths] for job in compiler.jobs] == [
        [8, 1, 2, 8],
        [4, 4],
    ]
    assert found.fits
    assert not any(step.bound for step in found.steps)
    assert found.temporaries_bytes == room // 3 + 32  # a byte a layer, on the line


def test_what_surely_does_not_fit_is_not_compiled_again() -> None:
    setup = ask().setup(2, 8)
    compiler = FakeCompiler(temporaries_bytes=setup.target.memory_bytes_per_device)
    assert not measure(setup, silent, ("decode", "prefill"), compiler).fits
    assert len(compiler.jobs) == 1


def test_layers_that_cannot_be_told_apart_are_timed_from_two_depths() -> None:
    setup = ask().setup(2, 8)
    known = measure(setup, silent, ("decode",), FakeCompiler()).step("decode")
    compiler = FakeCompiler(ends=False)
    unknown = measure(setup, silent, ("decode",), compiler).step("decode")
    assert len(compiler.jobs) == 2
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
