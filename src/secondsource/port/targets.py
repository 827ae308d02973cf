"""The chips that we can compile for: how the compiler names them, and what its cycle counts mean in seconds.

`cycles_per_s` is the chip's data-sheet peak over the multiply-adds of its arrays in one cycle (128 x 128 up to v5p,
256 x 256 after), which for v2 to v4 is the clock of Jouppi et al., "Ten Lessons" (ISCA 2021) and "TPU v4" (ISCA 2023).
How many arrays v6e and tpu7x have is read off the compiler: its count for a product of 8192 x 8192 matrices needs
four a core. Four more figures are read off libtpu 0.0.42.1, none fitted to a measurement: `memory_bytes_per_s` is the
HBM rate of its `optimal_seconds` for adding 1 to 256 MiB of float32, `least_cycles` its cycles for adding 1 to one
tile, `latency_cycles` by how many these are more than with its option `xla_tpu_hbm_initial_cycle_penalty` at 0,
`memory_gib` what its refusal of a program too large calls available.
"""

from datetime import date
from typing import Literal

import msgspec

from secondsource.catalog.records import Catalog, Chip
from secondsource.core.errors import InputError
from secondsource.core.strict_toml import suggestion
from secondsource.port.collectives import Links
from secondsource.port.timeline import Pace

GIB = 1 << 30
Platform = Literal["tpu", "cuda", "cpu"]  # cpu: of this machine, which shows what a kept program is good for


class TpuKind(msgspec.Struct, frozen=True, kw_only=True):
    """A generation of TPU, as libtpu knows it; `memory_gib` is what it lets a program use of a device's HBM."""

    topology: str  # the name before the colon
    axes: int  # of the mesh of a slice
    cycles_per_s: float
    memory_bytes_per_s: float  # of one device
    least_cycles: int
    latency_cycles: int
    memory_gib: float
    devices_per_chip: int = 1  # what JAX sees
    closed_at: int = 4  # an axis of a multiple of so many chips is a ring
    chip_config: str = ""


_TPUS = {
    "tpu-v2": TpuKind(
        topology="v2", axes=2, cycles_per_s=0.7e9, memory_bytes_per_s=317e9, least_cycles=204,
        latency_cycles=168, memory_gib=7.48, devices_per_chip=2, closed_at=16,
    ),
    "tpu-v3": TpuKind(
        topology="v3", axes=2, cycles_per_s=0.94e9, memory_bytes_per_s=430e9, least_cycles=261,
        latency_cycles=226, memory_gib=15.48, devices_per_chip=2, closed_at=32,
    ),
    "tpu-v4": TpuKind(
        topology="v4", axes=3, cycles_per_s=1.05e9, memory_bytes_per_s=983e9, least_cycles=618,
        latency_cycles=583, memory_gib=30.75, chip_config="megacore",
    ),
    "tpu-v5e": TpuKind(
        topology="v5e", axes=2, cycles_per_s=1.5e9, memory_bytes_per_s=738e9, least_cycles=1832,
        latency_cycles=1800, memory_gib=15.75, closed_at=16,
    ),
    "tpu-v5p": TpuKind(
        topology="v5p", axes=3, cycles_per_s=1.75e9, memory_bytes_per_s=2350e9, least_cycles=2128,
        latency_cycles=2100, memory_gib=95.74
    ),
    "tpu-v6e": TpuKind(
        topology="v6e", axes=2, cycles_per_s=1.75e9, memory_bytes_per_s=1638e9, least_cycles=2124,
        latency_cycles=2100, memory_gib=31.25, closed_at=16,
    ),
    "tpu7x": TpuKind(
        topology="tpu7x", axes=3, cycles_per_s=2.2e9, memory_bytes_per_s=3686e9, least_cycles=2300,
        latency_cycles=2280, memory_gib=94.75, devices_per_chip=2,
    ),
}  # fmt: skip


class GpuKind(msgspec.Struct, frozen=True, kw_only=True):
    """What a driver would tell of a GPU, as XLA's specs at openxla/xla@0774019 have it."""

    compute_major: int
    cores: int
    l2_bytes: int
    clock_ghz: float
    memory_bytes: int
    memory_bytes_per_s: int

    @property
    def text(self) -> str:
        """XLA's text of a target (GpuTargetConfigProto), so that it compiles without a driver."""
        return (
            "gpu_device_info {"
            f" cuda_compute_capability {{ major: {self.compute_major} minor: 0 }}"
            f" core_count: {self.cores} fpus_per_core: 128 threads_per_warp: 32 threads_per_block_limit: 1024"
            " threads_per_core_limit: 2048 shared_memory_per_block: 49152 shared_memory_per_core: 233472"
            " shared_memory_per_block_optin: 232448 registers_per_core_limit: 65536 registers_per_block_limit: 65536"
            " block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535"
            f" memory_bandwidth: {self.memory_bytes_per_s} l2_cache_size: {self.l2_bytes}"
            f" clock_rate_ghz: {self.clock_ghz} device_memory_size: {self.memory_bytes}"
            ' } platform_name: "CUDA" dnn_version_info { major: 9 minor: 10 }'
        )


_GPUS = {
    "h100-sxm": GpuKind(
        compute_major=9, cores=132, l2_bytes=52_428_800, clock_ghz=1.98, memory_bytes=84_942_979_072,
        memory_bytes_per_s=3_352_320_000_000,
    ),
    "h200-sxm": GpuKind(
        compute_major=9, cores=132, l2_bytes=62_914_560, clock_ghz=1.98, memory_bytes=150_110_011_392,
        memory_bytes_per_s=4_800_000_000_000,
    ),
    "b200-sxm": GpuKind(
        compute_major=10, cores=148, l2_bytes=132_644_864, clock_ghz=1.965, memory_bytes=191_514_411_008,
        memory_bytes_per_s=7_672_320_000_000,
    ),
}  # fmt: skip
_GPU_RESERVED_BYTES = GIB  # the driver's context and the libraries' workspaces: assumed, and no compiler checks it
_OLD_AS_OF = date(2023, 6, 17)
_OLDER = (  # too old for the catalogue's data sheets
    Chip(
        name="tpu-v2", vendor="google", bf16_tflops=46, hbm_gb=16, hbm_tb_s=0.7, scaleup_gb_s=248, scaleup_chips=256,
        as_of=_OLD_AS_OF, source="Jouppi et al., A Domain-Specific Supercomputer (CACM 2020), table 3",
    ),
    Chip(
        name="tpu-v3", vendor="google", bf16_tflops=123, hbm_gb=32, hbm_tb_s=0.9, scaleup_gb_s=280, scaleup_chips=1024,
        as_of=_OLD_AS_OF, source="Jouppi et al., TPU v4 (ISCA 2023), table 4",
    ),
    Chip(
        name="tpu-v4", vendor="google", bf16_tflops=275, int8_tops=275, hbm_gb=32, hbm_tb_s=1.2, scaleup_gb_s=300,
        scaleup_chips=4096, as_of=_OLD_AS_OF, source="Jouppi et al., TPU v4 (ISCA 2023), table 4",
    ),
)  # fmt: skip


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """So many chips of a kind, joined; what a compile is for."""

    chip: str
    platform: Platform
    chips: int
    devices: int
    topology: str  # of libtpu: `v6e:2x4`; of CUDA: slices x hosts x devices
    chip_config: str
    links: Links
    memory_bytes_per_device: int
    cycles_per_s: float  # 0: the compiler gives no cycles
    memory_bytes_per_s: float  # of one device
    flops_per_s: float = 0.0  # of one device, in bf16
    least_cycles: int
    latency_cycles: int = 0

    @property
    def pace(self) -> Pace:
        """What the walk needs."""
        return Pace(
            cycles_per_s=self.cycles_per_s,
            memory_bytes_per_s=self.memory_bytes_per_s,
            flops_per_s=self.flops_per_s,
            least_cycles=self.least_cycles,
            latency_cycles=self.latency_cycles,
            devices=self.devices,
            links=self.links,
        )

    @property
    def slice_shape(self) -> str:
        """`2x4`, or `8` for chips behind a switch."""
        return "x".join(str(size) for size in self.links.shape)


def known_chips() -> tuple[str, ...]:
    """Return the names of the chips that there is a compiler for."""
    return (*_TPUS, *_GPUS)


def find_chip(catalog: Catalog, name: str) -> Chip:
    """Return the chip of this name or alias; raises InputError naming the chips that can be compiled for."""
    for chip in (*catalog.chips, *_OLDER):
        if name in (chip.name, *chip.aliases):
            if chip.name in known_chips():
                return chip
            raise InputError(
                f'--chip {name}: no compiler for "{chip.name}" runs here; there is one for {", ".join(known_chips())}'
            )
    raise InputError(f"--chip {name}: no chip of that name; {suggestion(name, known_chips())}")


def is_gpu(chip: Chip) -> bool:
    """Whether a chip is compiled for by JAX's CUDA plugin; else libtpu does."""
    return chip.name in _GPUS


def most_chips(chip: Chip) -> int:
    """Return the largest slice that is asked for: one switch of GPUs, or 256 TPUs."""
    return 8 if chip.name in _GPUS else min(chip.scaleup_chips, 256)


def make_target(chip: Chip, chips: int) -> Target:
    """Return the target of so many chips; raises InputError where no slice of the chip is that large."""
    most = most_chips(chip)
    if chips < 1 or chips & (chips - 1) or chips > most:
        raise InputError(f"--chips {chips}: expected a power of two from 1 to {most} for {chip.name}")
    if chip.name in _GPUS:
        return _cuda_target(chip, chips)
    kind = _TPUS[chip.name]
    shape = slice_shape(chips, kind.axes)
    return Target(
        chip=chip.name,
        platform="tpu",
        chips=chips,
        devices=chips * kind.devices_per_chip,
        topology=f"{kind.topology}:{'x'.join(map(str, shape))}",
        chip_config=kind.chip_config,
        links=Links(
            shape=shape,
            gb_s=chip.scaleup_gb_s / (2 * kind.axes),
            closed_at=kind.closed_at,
            devices_per_chip=kind.devices_per_chip,
        ),
        memory_bytes_per_device=int(kind.memory_gib * GIB),
        cycles_per_s=kind.cycles_per_s,
        memory_bytes_per_s=kind.memory_bytes_per_s,
        flops_per_s=chip.bf16_tflops * 1e12 / kind.devices_per_chip,
        least_cycles=kind.least_cycles,
        latency_cycles=kind.latency_cycles,
    )


def _cuda_target(chip: Chip, chips: int) -> Target:
    return Target(
        chip=chip.name,
        platform="cuda",
        chips=chips,
        devices=chips,
        topology=f"1x1x{chips}",
        chip_config="",
        links=Links(shape=(chips,), gb_s=chip.scaleup_gb_s, closed_at=chips + 1),
        memory_bytes_per_device=_GPUS[chip.name].memory_bytes - _GPU_RESERVED_BYTES,
        cycles_per_s=0.0,
        memory_bytes_per_s=chip.hbm_tb_s * 1e12,
        least_cycles=0,
    )


def gpu_text(chip: str) -> str:
    """Return XLA's text of a GPU."""
    return _GPUS[chip].text


def slice_shape(chips: int, axes: int) -> tuple[int, ...]:
    """Return the most compact slice of so many chips (a power of two): 8 chips are 2x4, or 2x2x2."""
    powers = [0] * axes
    for place in range(chips.bit_length() - 1):
        powers[place % axes] += 1
    shape = tuple(2**power for power in powers)
    return tuple(sorted(shape)) if axes == 2 or min(shape) > 1 else shape


def host_bounds(chips: int, axes: int) -> tuple[int, int, int]:
    """Return the chips of one host along x, y and z: four where the slice has them, else all."""
    x, y, z = (*slice_shape(chips, axes), 1)[:3]
    return (min(x, 2), min(y, 2), 1) if chips >= 4 else (x, y, z)
