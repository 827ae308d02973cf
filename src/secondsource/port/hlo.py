"""Read the text of a compiled XLA module: computations, instructions, and the arrays they move.

Only what the cost walk needs: names, opcodes, operands, shapes with layout and memory space, and the raw text of
the attributes. The text is XLA's own dump (`compiled.as_text()`), one instruction a line.
"""

import math
import re
from collections.abc import Iterator

import msgspec

from secondsource.core.errors import SecondsourceError

_BITS = {
    "pred": 8, "token": 0, "s2": 2, "u2": 2, "s4": 4, "u4": 4, "s8": 8, "u8": 8, "s16": 16, "u16": 16,
    "s32": 32, "u32": 32, "s64": 64, "u64": 64, "bf16": 16, "f16": 16, "f32": 32, "f64": 64, "c64": 64, "c128": 128,
}  # fmt: skip
_ARRAY = re.compile(r"([a-z][a-z0-9]*)\[([0-9,]*)\](?:\{([^}]*)\})?")
_HEAD = re.compile(r"^(ENTRY )?%?([^\s(]+) \(.*\{\s*$")
_LINE = re.compile(r"^\s+(ROOT )?%?(\S+) = (.*)$")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_NAME = re.compile(r"%([^\s,()]+)")
_COMMENT = re.compile(r"/\*.*?\*/")
_CALLED = re.compile(r"\b(calls|to_apply|body|condition|called_computations|branch_computations)=\{?(%[^\s,}]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}|true_computation=%(\S+?),|false_computation=%(\S+?)[,\s]")
CHIP_MEMORY = 0  # the memory space that is not on the core: HBM


class Shape(msgspec.Struct, frozen=True):
    """One array: its dimensions, the order they lie in memory, and the memory that it is in."""

    dtype: str
    dimensions: tuple[int, ...]
    minor_to_major: tuple[int, ...] = ()
    tile: tuple[int, ...] = ()
    space: int = CHIP_MEMORY

    @property
    def bytes(self) -> float:
        """Bytes in memory, the padding of its tiles included."""
        sizes = [self.dimensions[axis] for axis in reversed(self.minor_to_major)] or list(self.dimensions)
        for place, width in enumerate(reversed(self.tile), 1):
            if place <= len(sizes):
                sizes[-place] = math.ceil(sizes[-place] / width) * width
        bits = _BITS.get(self.dtype, 8 if self.dtype.startswith("f8") else 4 if self.dtype.startswith("f4") else 32)
        return math.prod(sizes) * bits / 8


class Instruction(msgspec.Struct, frozen=True):
    """One line of a computation."""

    name: str
    opcode: str
    shapes: tuple[Shape, ...]  # of a tuple, its arrays in order
    operands: tuple[str, ...]
    operand_text: str  # a constant's value, a parameter's number
    attributes: str

    @property
    def cycles(self) -> int | None:
        """What the compiler reckons that it takes, where it says so."""
        found = _CYCLES.search(self.attributes)
        return int(found[1]) if found else None

    def called(self, role: str) -> str:
        """Return the computation it calls as `calls`, `body`, `condition` or `to_apply`; "" where none."""
        for found in _CALLED.finditer(self.attributes):
            if found[1] == role:
                return found[2].lstrip("%")
        return ""

    def branches(self) -> tuple[str, ...]:
        """Return the computations of a conditional."""
        names: list[str] = []
        for found in _BRANCHES.finditer(self.attributes + " "):
            text = found[1] or found[2] or found[3] or ""
            names += [name.strip().lstrip("%") for name in text.split(",")]
        return tuple(names)


class Computation(msgspec.Struct, frozen=True):
    """A list of instructions, in the order in which they are issued."""

    name: str
    instructions: tuple[Instruction, ...]
    by_name: dict[str, Instruction]
    root: Instruction


class Module(msgspec.Struct, frozen=True):
    """A compiled program."""

    computations: dict[str, Computation]
    entry: Computation


def parse_module(text: str) -> Module:
    """Return the module of an HLO text; raises SecondsourceError where there is no entry to be found."""
    computations: dict[str, Computation] = {}
    entry = ""
    name, lines, root = "", list[Instruction](), ""
    for line in text.splitlines():
        if line.startswith("}"):
            if lines:
                by_name = {each.name: each for each in lines}
                computations[name] = Computation(name, tuple(lines), by_name, by_name[root] if root else lines[-1])
            lines, root = [], ""
        elif not line.startswith(" ") and (head := _HEAD.match(line)):
            name = head[2]
            entry = name if head[1] else entry
        elif name and (found := _LINE.match(line)) and (instruction := _instruction(found[2], found[3])):
            lines.append(instruction)
            root = instruction.name if found[1] else root
    if entry not in computations:
        raise SecondsourceError("the compiler's text has no entry computation; it is no HLO that we can read")
    return Module(computations, computations[entry])


def _instruction(name: str, rest: str) -> Instruction | None:
    end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.find(" ")
    opened = rest.find("(", end)
    if end <= 0 or opened < 0:
        return None
    closed = _closing(rest, opened)
    inside = rest[opened + 1 : closed]
    return Instruction(
        name=name,
        opcode=rest[end:opened].strip(),
        shapes=tuple(read_shapes(rest[:end])),
        operands=tuple(_NAME.findall(_COMMENT.sub("", inside))),
        operand_text=inside,
        attributes=rest[closed + 1 :],
    )


def _closing(text: str, start: int) -> int:
    """Return the place of the parenthesis that closes the one at `start`."""
    depth = 0
    for place in range(start, len(text)):
        if text[place] == "(":
            depth += 1
        elif text[place] == ")":
            depth -= 1
            if not depth:
                return place
    return len(text) - 1


def read_shapes(text: str) -> Iterator[Shape]:
    """Yield the arrays of a type: `bf16[8,128]{1,0:T(8,128)(2,1)S(1)}`, or a tuple of such."""
    for found in _ARRAY.finditer(_COMMENT.sub("", text)):
        order, _, layout = (found[3] or "").partition(":")
        tile = re.search(r"T\(([0-9,]+)\)", layout)
        space = re.search(r"S\((\d+)\)", layout)
        yield Shape(
            dtype=found[1],
            dimensions=_numbers(found[2]),
            minor_to_major=_numbers(order),
            tile=_numbers(tile[1]) if tile else (),
            space=int(space[1]) if space else CHIP_MEMORY,
        )


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(each) for each in text.split(",") if each.strip())
