"""How long chips take to exchange arrays over their links: what the compiler's cycle counts leave out.

A slice of TPUs is a mesh or, where an axis closes, a torus. A collective over a group of chips moves its bytes over
every link of the group's axes at once and waits for the farthest chip: time = hops x latency + bytes / links, as in
Chan et al., "Collective communication: theory, practice, and experience" (2007), with an all-reduce as a
reduce-scatter and an all-gather. The latency of a hop, about a microsecond, is the figure of "How to Scale Your
Model" (Austin et al., 2025), chapter 3. GPUs behind a switch are a group with one hop and one link.
"""

import math
import re

import msgspec

from secondsource.port.hlo import Instruction, Shape

HOP_S = 1e-6
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute", "collective-broadcast")
_MESH_AXIS = re.compile(r"'([^']+)'=(\d+)")


class Links(msgspec.Struct, frozen=True, kw_only=True):
    """The links of a slice: `shape` is its chips by axis; `gb_s` one link, one direction."""

    shape: tuple[int, ...]
    gb_s: float
    closed_at: int  # an axis of a multiple of so many chips closes to a ring
    devices_per_chip: int = 1

    def _group_axes(self, devices: int) -> tuple[int, ...]:
        """Return the axes of the most compact block of the slice that holds so many devices."""
        left = max(1, devices // self.devices_per_chip)
        axes = [1] * len(self.shape)
        while left > 1:
            open_axes = [axis for axis, size in enumerate(axes) if size < self.shape[axis]]
            if not open_axes:
                break
            shortest = min(open_axes, key=lambda axis: axes[axis])
            axes[shortest] *= 2
            left //= 2
        return tuple(size for size in axes if size > 1)

    def _closed(self, size: int) -> bool:
        return size % self.closed_at == 0

    def hops(self, devices: int) -> int:
        """Return the hops between the two devices of a group that are farthest apart."""
        inside = 1 if devices > 1 and self.devices_per_chip > 1 else 0
        return inside + sum(size // 2 if self._closed(size) else size - 1 for size in self._group_axes(devices))

    def bytes_per_s(self, devices: int) -> float:
        """Return what the device with the fewest links receives; a corner of an open mesh has one by axis."""
        axes = self._group_axes(devices)
        links = sum(2 if self._closed(size) and size > 2 else 1 for size in axes) or 1
        return links * self.gb_s * 1e9


def group_size(attributes: str, everyone: int) -> int:
    """Return how many devices exchange with each other; XLA writes groups in three ways."""
    found = re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", attributes)
    if found:
        sizes = dict(_MESH_AXIS.findall(found[1]))
        return math.prod(int(sizes.get(axis.strip().strip("'").split(":")[0], 1)) for axis in found[2].split(","))
    found = re.search(r"replica_groups=\[(\d+),(\d+)\]", attributes)
    if found:
        return int(found[2])
    found = re.search(r"replica_groups=\{\{([^}]*)\}", attributes)
    return len(found[1].split(",")) if found and found[1].strip() else everyone


def collective_s(instruction: Instruction, operands: tuple[Shape, ...], links: Links, devices: int) -> float:
    """Return the seconds of one collective, synchronous or from its start to its end."""
    kind = next(name for name in COLLECTIVES if instruction.opcode.startswith(name))
    group = group_size(instruction.attributes, devices)
    if group < 2:
        return 0.0
    bandwidth, hops = links.bytes_per_s(group), links.hops(group)
    given = sum(shape.bytes for shape in operands)
    share = (group - 1) / group
    if kind == "collective-permute":  # between neighbours, as the partitioner's windows are
        return HOP_S + given / (links.gb_s * 1e9)
    if kind == "all-reduce":
        return 2 * (hops * HOP_S + given * share / bandwidth)
    if kind == "all-gather":
        return hops * HOP_S + given * (group - 1) / bandwidth
    return hops * HOP_S + given * share / bandwidth
