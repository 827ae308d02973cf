import math
from datetime import date

import pytest

from secondsource.catalog.load import shipped_catalog
from secondsource.core.errors import InputError
from secondsource.port.targets import find_chip, gpu_text, host_bounds, known_chips, make_target, slice_shape

CATALOG = shipped_catalog(date.max)


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("chips", [1, 2, 4, 8, 16, 32, 64, 256])
def test_slices_hold_their_chips_and_divide_into_hosts(chips: int, axes: int) -> None:
    shape = slice_shape(chips, axes)
    assert math.prod(shape) == chips
    assert len(shape) == axes
    for size, host in zip((*shape, 1)[:3], host_bounds(chips, axes), strict=True):
        assert size % host == 0


@pytest.mark.parametrize("name", known_chips())
def test_every_chip_makes_a_target(name: str) -> None:
    target = make_target(find_chip(CATALOG, name), 4)
    assert target.devices in {4, 8}
    assert target.memory_bytes_per_device > 7e9
    assert target.memory_bytes_per_s * target.devices > 1e12


def test_ironwood_is_two_devices_a_chip() -> None:
    target = make_target(find_chip(CATALOG, "tpu-ironwood"), 4)
    assert (target.chip, target.topology, target.devices) == ("tpu7x", "tpu7x:2x2x1", 8)


@pytest.mark.parametrize("chips", [0, -1, 3, 512])
def test_odd_slices_are_refused(chips: int) -> None:
    with pytest.raises(InputError, match="power of two from 1 to 256"):
        make_target(find_chip(CATALOG, "tpu-v6e"), chips)


def test_unknown_chips_are_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="tpu-v6e"):
        find_chip(CATALOG, "tpu-v6")
    with pytest.raises(InputError, match=r"no compiler for .mi300x. runs here"):
        find_chip(CATALOG, "mi300x")


def test_the_text_of_a_gpu_names_its_generation() -> None:
    assert "major: 9" in gpu_text("h200-sxm")
    assert "major: 10" in gpu_text("b200-sxm")
