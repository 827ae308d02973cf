import pytest

from secondsource.port.job import Depth, Fault
from secondsource.port.measuring import carry_on, depths_of, measure
from secondsource.port.models import find_model
from tests.unit.port.fakes import FakeCompiler, ask, silent

GEMMA = find_model("gemma-3-27b").config  # 62 layers, 52 of them with a window
LLAMA = find_model("llama-3.1-70b").config


def test_two_points_make_a_line_for_each_kind_of_layer() -> None:
    assert depths_of(LLAMA, "decode", whole=False) == (Depth(4), Depth(8))
    assert depths_of(GEMMA, "prefill", whole=False) == (Depth(1), Depth(2), Depth(1, 1))
    assert depths_of(GEMMA, "decode", whole=True) == (Depth(10, 52),)


@pytest.mark.parametrize("step", ["decode", "prefill"])
def test_a_straight_line_is_carried_on_exactly(step: str) -> None:
    for config in (LLAMA, GEMMA):
        depths = depths_of(config, "decode" if step == "decode" else "prefill", whole=False)
        local = len(config.local_layers)
        values = [7 + 3 * depth.full + 2 * depth.local for depth in depths]
        assert carry_on(values, depths, config) == pytest.approx(7 + 3 * (config.layers - local) + 2 * local)


def test_a_line_never_falls() -> None:
    assert carry_on([5.0, 4.0], (Depth(2), Depth(4)), LLAMA) == 5.0


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


@pytest.mark.parametrize(
    ("kind", "compiles", "fits"),
    [("refused", False, True), ("memory", True, False), ("crashed", None, True), ("time", None, True)],
)
def test_faults_become_verdicts(kind: str, compiles: bool | None, fits: bool) -> None:
    fault = Fault(kind=kind, program=None, message="no")  # type: ignore[arg-type]
    found = measure(ask().setup(2, 8), silent, ("decode",), FakeCompiler(fault=fault))
    assert found.compiles is compiles
    assert found.fits is fits
