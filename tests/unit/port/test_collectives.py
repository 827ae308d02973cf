import pytest

from secondsource.port.collectives import HOP_S, Links, collective_s, group_size
from secondsource.port.hlo import Shape
from tests.unit.port.texts import module

SLICE = Links(shape=(4, 4), gb_s=50, closed_at=16)
POD = Links(shape=(16, 16), gb_s=50, closed_at=16)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("replica_groups=mesh['axis_0'=2,'axis_1'=8] {'axis_1'}, use_global_device_ids=true", 8),
        ("replica_groups=mesh['axis_0'=1,'axis_1'=8,'axis_2'=2] {'axis_1','axis_2'}", 16),
        ("replica_groups=[2,8]<=[16], to_apply=%add", 8),
        ("replica_groups={{0,1,2,3},{4,5,6,7}}, to_apply=%add", 4),
        ("replica_groups={}, to_apply=%add", 16),
    ],
)
def test_groups_are_written_in_three_ways(text: str, size: int) -> None:
    assert group_size(text, 16) == size


def seconds(opcode: str, links: Links, devices: int, given: Shape) -> float:
    groups = "{" + ",".join(str(each) for each in range(devices)) + "}"
    line = f"ROOT %r = f32[8] {opcode}(%a), replica_groups={{{groups}}}"
    return collective_s(module(line).entry.root, (given,), links, devices)


TINY, LARGE = Shape("u8", (1,)), Shape("u8", (1_600_000_000,))


def test_a_tiny_exchange_takes_its_hops() -> None:
    assert seconds("all-gather", SLICE, 16, TINY) == pytest.approx(6 * HOP_S, rel=0.01)  # 3 along each open axis
    assert seconds("all-gather", POD, 256, TINY) == pytest.approx(16 * HOP_S, rel=0.01)  # 8 along each ring
    assert seconds("all-reduce", SLICE, 16, TINY) == pytest.approx(12 * HOP_S, rel=0.01)


def test_a_large_exchange_takes_its_bytes() -> None:
    # A corner of an open 4 x 4 mesh receives 15/16 over two links of 50 GB/s, once to scatter and once to gather.
    assert seconds("all-reduce", SLICE, 16, LARGE) == pytest.approx(2 * 1.5e9 / 100e9, rel=0.01)
    assert seconds("reduce-scatter", SLICE, 16, LARGE) == pytest.approx(1.5e9 / 100e9, rel=0.01)
    assert seconds("collective-permute", SLICE, 16, LARGE) == pytest.approx(1.6e9 / 50e9, rel=0.01)


def test_one_device_exchanges_nothing() -> None:
    assert seconds("all-reduce", SLICE, 1, LARGE) == 0.0


def test_more_devices_never_take_fewer_hops() -> None:
    hops = [SLICE.hops(devices) for devices in (1, 2, 4, 8, 16)]
    assert hops == sorted(hops)
    assert hops[0] == 0
