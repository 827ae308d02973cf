"""How long one run of a compiled module takes after another of itself, walked by instruction in the order of issue.

The compiler gives `estimated_cycles` for each fusion; loops are walked as often as they run. Besides these the walk
keeps two engines that work at the same time as the core: copies between HBM and the core's memory, which use the
bandwidth that the running fusion leaves, and the links. A `-done` waits for its `-start`. Gathers, scatters and custom
calls carry no cycles and are taken at their bytes; what is left over is counted and told.

Of a product with a weight that it reads from HBM the compiler says two things that cannot both be: by its cycles it
moves half to three quarters of the bytes a second of its `optimal_seconds`, which is also what it reckons a plain copy
at. Where reading is what bounds such a product, its bytes are taken (docs/port.md has both reckonings).

And the compiler adds HBM's latency to every fusion, those among them whose operands and results all lie in the core's
own memory. From these it is taken off again.
"""

import copy
import math
from dataclasses import dataclass, field

import msgspec

from secondsource.port.collectives import COLLECTIVES, Links, collective_s
from secondsource.port.hlo import CHIP_MEMORY, Computation, Instruction, Module, Shape
from secondsource.port.layers import layer_ends
from secondsource.port.loops import trip_count

_WALKED = 6  # trips of a loop that are walked; the rest take as long as the last of them
_FREE_CALLS = ("AllocateBuffer", "ConcatBitcast", "Sharding", "AssumeGatherIndicesInBound", "SPMDFullToShardShape")
_FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id", "replica-id"}
_LEFT_BY_THE_RUN_BEFORE = "cross_program_prefetch_index="
_MOVES = ("copy", "slice", "dynamic-slice", "dynamic-update-slice")


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """A core's speeds: what turns cycles and bytes into seconds."""

    cycles_per_s: float
    memory_bytes_per_s: float  # HBM, of one device
    flops_per_s: float  # of one device's arrays, in bf16
    least_cycles: int  # of one operation with operands in HBM
    latency_cycles: int = 0  # of HBM: a part of every operation's cycles, wherever its operands lie
    devices: int
    links: Links


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds since a run began; the parts sum to the whole."""

    seconds: float
    cores_s: float  # the compiler's cycles, and products bound by reading their weights
    memory_s: float  # waiting for copies that the core's work did not cover, gathers and scatters
    links_s: float  # waiting for other chips
    operations: int


class Walked(Spent, frozen=True, kw_only=True):
    """One run of a module."""

    layers: tuple[Spent, ...] = ()  # at the end of each layer, the first first
    unpriced: tuple[str, ...] = ()  # custom calls whose time nobody gives
    unknown_loops: tuple[str, ...] = ()  # counted as one trip


@dataclass(slots=True)
class _Clock:
    now: float = 0.0
    cores: float = 0.0
    memory: float = 0.0
    links: float = 0.0
    copied: float = 0.0  # bytes that the copy engine has moved
    asked: float = 0.0  # bytes that it was ever asked to move
    links_free: float = 0.0
    due_copies: dict[str, float] = field(default_factory=dict)  # by start: bytes that must have moved
    due_links: dict[str, float] = field(default_factory=dict)  # by start: when it will be done
    operations: int = 0
    unpriced: set[str] = field(default_factory=set)
    unknown_loops: set[str] = field(default_factory=set)


class _Walk:
    def __init__(self, module: Module, pace: Pace) -> None:
        self._module = module
        self._pace = pace
        self._clock = _Clock()

    def result(self) -> Walked:
        ends = layer_ends(self._module.entry)
        layers: dict[int, Spent] = {}
        for instruction in self._module.entry.instructions:
            if instruction.opcode not in _FREE:
                self._instruction(self._module.entry, instruction)
            if instruction.name in ends:
                layers[ends[instruction.name]] = self._spent()
        clock, spent = self._clock, self._spent()
        return Walked(
            seconds=spent.seconds,
            cores_s=spent.cores_s,
            memory_s=spent.memory_s,
            links_s=spent.links_s,
            operations=spent.operations,
            layers=tuple(layers[number] for number in sorted(layers)),
            unpriced=tuple(sorted(clock.unpriced)),
            unknown_loops=tuple(sorted(clock.unknown_loops)),
        )

    def _spent(self) -> Spent:
        clock = self._clock
        return Spent(
            seconds=clock.now,
            cores_s=clock.cores,
            memory_s=clock.memory,
            links_s=clock.links,
            operations=clock.operations,
        )

    def _computation(self, computation: Computation) -> None:
        for instruction in computation.instructions:
            if instruction.opcode not in _FREE:
                self._instruction(computation, instruction)

    def _instruction(self, computation: Computation, instruction: Instruction) -> None:
        opcode = instruction.opcode
        if opcode == "while":
            self._loop(computation, instruction)
        elif opcode == "conditional":
            self._longest_branch(instruction)
        elif opcode == "call":
            self._computation(self._module.computations[instruction.called("to_apply")])
        elif opcode.endswith("-done") or self._calls(instruction, "AsyncCollectiveDone"):
            self._wait_for(computation, instruction)
        elif (collective := self._collective(computation, instruction)) is not None:
            self._exchange(instruction, collective[0], waits=collective[1])
        elif opcode.endswith("-start"):
            self._start_copy(computation, instruction)
        elif (cycles := instruction.cycles) is not None:
            used = _in_chip_memory((*instruction.shapes, *self._operands(computation, instruction)))
            reading = used / self._pace.memory_bytes_per_s
            waited = 0 if used else min(cycles, self._pace.latency_cycles)  # for HBM, where nothing lies there
            seconds = (cycles - waited) / self._pace.cycles_per_s
            if reading and reading >= self._multiplying_s(instruction):
                seconds = min(seconds, reading)
            self._work(seconds, used)
        else:
            self._by_bytes(computation, instruction)

    def _operands(self, computation: Computation, instruction: Instruction) -> tuple[Shape, ...]:
        known = (computation.by_name.get(name) for name in instruction.operands)
        return tuple(shape for each in known if each is not None for shape in each.shapes)

    def _multiplying_s(self, instruction: Instruction) -> float:
        """Return what the products with a weight in a fusion take at the arrays' peak; infinite where it has none.

        A product batched over slots and heads, as attention's are, is written dilated, and does not count: its cycles
        are as many where its operands lie in the core's memory.
        """
        inner = self._module.computations.get(instruction.called("calls"))
        products = [each for each in inner.instructions if each.opcode == "convolution"] if inner else []
        if inner is None or not products or any("lhs_dilate" in each.attributes for each in products):
            return math.inf
        multiplied = 0.0
        for each in products:
            shapes = (*each.shapes, *self._operands(inner, each))
            # rows x summed, summed x columns and rows x columns: the root of the product is rows x summed x columns
            multiplied += math.sqrt(math.prod(math.prod(shape.dimensions) for shape in shapes))
        return 2 * multiplied / self._pace.flops_per_s

    def _calls(self, instruction: Instruction, target: str) -> bool:
        inner = self._module.computations.get(instruction.called("calls"))
        return inner is not None and any(f'"{target}"' in each.attributes for each in inner.instructions)

    def _collective(self, computation: Computation, instruction: Instruction) -> tuple[float, bool] | None:
        """Return how long the collective takes that this is or starts, and whether the core waits for it."""
        if instruction.opcode.startswith(COLLECTIVES):
            return self._links_s(computation, instruction), not instruction.opcode.endswith(("-start", "-done"))
        inner = self._module.computations.get(instruction.called("calls"))
        if instruction.opcode not in {"fusion", "async-start"} or inner is None:
            return None
        found = [each for each in inner.instructions if each.opcode.startswith(COLLECTIVES)]
        if not found:
            return None
        starts = self._calls(instruction, "AsyncCollectiveStart") or instruction.opcode == "async-start"
        return sum(self._links_s(inner, each) for each in found), not starts

    def _links_s(self, computation: Computation, instruction: Instruction) -> float:
        pace = self._pace
        return collective_s(instruction, self._operands(computation, instruction), pace.links, pace.devices)

    def _advance(self, seconds: float, used_bytes: float = 0.0) -> None:
        """Let time pass; the copy engine takes what memory bandwidth the core leaves."""
        clock = self._clock
        clock.now += seconds
        spare = max(0.0, seconds * self._pace.memory_bytes_per_s - used_bytes)
        clock.copied = min(clock.asked, clock.copied + spare)

    def _work(self, seconds: float, used_bytes: float) -> None:
        self._advance(seconds, used_bytes)
        self._clock.cores += seconds
        self._clock.operations += 1

    def _start_copy(self, computation: Computation, instruction: Instruction) -> None:
        moved = min((shape.bytes for shape in instruction.shapes if shape.dimensions), default=0.0)
        if _LEFT_BY_THE_RUN_BEFORE in instruction.attributes:
            return  # the run before copied it at its end, and was charged for it
        clock = self._clock
        if _in_chip_memory((*instruction.shapes, *self._operands(computation, instruction))):
            clock.asked += moved
        clock.due_copies[instruction.name] = clock.asked

    def _exchange(self, instruction: Instruction, seconds: float, *, waits: bool) -> None:
        clock = self._clock
        clock.operations += 1
        if waits:
            begins = max(clock.now, clock.links_free)
            waited = begins + seconds - clock.now
            self._advance(waited)
            clock.links += waited
            clock.links_free = clock.now
        else:
            clock.links_free = max(clock.now, clock.links_free) + seconds
            clock.due_links[instruction.name] = clock.links_free

    def _wait_for(self, computation: Computation, instruction: Instruction) -> None:
        clock = self._clock
        for start in self._starts(computation, instruction):
            if start in clock.due_links:
                waited = max(0.0, clock.due_links[start] - clock.now)
                self._advance(waited)
                clock.links += waited
            elif start in clock.due_copies:
                missing = max(0.0, clock.due_copies[start] - clock.copied)
                waited = missing / self._pace.memory_bytes_per_s
                self._advance(waited)
                clock.memory += waited

    def _starts(self, computation: Computation, instruction: Instruction) -> set[str]:
        """Return the starts that a done waits for; a collective's lie behind elements of its tuple."""
        found: set[str] = set()
        for name in instruction.operands:
            source = computation.by_name.get(name)
            while source is not None and source.opcode in {"get-tuple-element", "bitcast"}:
                source = computation.by_name.get(source.operands[0])
            if source is not None:
                found.add(source.name)
        return found

    def _by_bytes(self, computation: Computation, instruction: Instruction) -> None:
        """Take an operation without cycles at what it moves: gathers, scatters, custom calls."""
        target = instruction.attributes.partition('custom_call_target="')[2].partition('"')[0]
        if target in _FREE_CALLS or not any(shape.dimensions for shape in instruction.shapes):
            return
        operands = self._operands(computation, instruction)
        sizes = sorted(shape.bytes for shape in (*instruction.shapes, *operands) if shape.dimensions)
        small = instruction.opcode in _MOVES and sizes and sizes[-1] < 4096
        if small:
            return
        if target and "kind=kCustom" not in instruction.attributes:
            self._clock.unpriced.add(target)
            moved = sum(sizes)
        else:
            moved = sum(size for size in sizes if size < sizes[-1])  # rows of the largest array, not all of it
        seconds = self._pace.least_cycles / self._pace.cycles_per_s + moved / self._pace.memory_bytes_per_s
        self._advance(seconds, moved)
        self._clock.memory += seconds
        self._clock.operations += 1

    def _loop(self, computation: Computation, instruction: Instruction) -> None:
        trips = trip_count(self._module, computation, instruction)
        clock = self._clock
        if trips is None:
            clock.unknown_loops.add(instruction.name)
            trips = 1
        body = self._module.computations[instruction.called("body")]
        for _ in range(min(trips, _WALKED)):
            before = (clock.now, clock.cores, clock.memory, clock.links, clock.operations)
            self._computation(body)
        if trips > _WALKED:
            rest = trips - _WALKED
            clock.cores += rest * (clock.cores - before[1])
            clock.memory += rest * (clock.memory - before[2])
            clock.links += rest * (clock.links - before[3])
            clock.operations += rest * (clock.operations - before[4])
            self._advance(rest * (clock.now - before[0]), float("inf"))
            clock.links_free = max(clock.links_free, clock.now)

    def _longest_branch(self, instruction: Instruction) -> None:
        """Walk every branch on its own and keep the slowest: which one runs depends on data."""
        branches = [self._module.computations[name] for name in instruction.branches()]
        kept, slowest = self._clock, None
        for branch in branches:
            self._clock = copy.deepcopy(kept)
            self._computation(branch)
            if slowest is None or self._clock.now > slowest.now:
                slowest = self._clock
        self._clock = slowest or kept


def _in_chip_memory(shapes: tuple[Shape, ...]) -> float:
    return sum(shape.bytes for shape in shapes if shape.space == CHIP_MEMORY and shape.dimensions)


def walk(module: Module, pace: Pace) -> Walked:
    """Return how long one run of the module takes on a core of this pace."""
    return _Walk(module, pace).result()
