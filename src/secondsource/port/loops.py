"""How often a loop of a compiled module runs: its counter, followed through condition and body.

XLA's text gives no trip count for the loops that the partitioner makes. Their counters are whole numbers that start
from constants, so we run the scalars of condition and body and nothing else. A counter that depends on data is
unknown, and the caller says so.
"""

from collections.abc import Callable, Mapping

import msgspec

from secondsource.port.hlo import Computation, Instruction, Module

MOST_TRIPS = 100_000
_PASS_ON = {"copy", "bitcast", "convert", "reshape", "broadcast"}
_ARITHMETIC: Mapping[str, Callable[[int, int], int]] = {
    "add": int.__add__,
    "subtract": int.__sub__,
    "multiply": int.__mul__,
    "minimum": min,
    "maximum": max,
}
_COMPARE: Mapping[str, Callable[[int, int], bool]] = {
    "LT": int.__lt__,
    "LE": int.__le__,
    "GT": int.__gt__,
    "GE": int.__ge__,
    "EQ": int.__eq__,
    "NE": int.__ne__,
}
State = tuple[int | None, ...]  # of a tuple: each element's value, None where it is no known whole number


class _Scope(msgspec.Struct, frozen=True):
    module: Module
    computation: Computation
    arguments: tuple[State, ...]

    def scalar(self, name: str) -> int | None:
        """Return the value of an instruction where it is a known whole number."""
        instruction = self.computation.by_name.get(name)
        if instruction is None:
            return None
        match instruction.opcode:
            case "constant":
                return _whole(instruction.operand_text)
            case "get-tuple-element":
                state = self.state(instruction.operands[0])
                index = int(instruction.attributes.split("index=", 1)[1].split(",")[0])
                return state[index] if index < len(state) else None
            case "parameter":
                state = self.state(name)
                return state[0] if len(state) == 1 else None
            case "fusion" | "call" if all(not shape.dimensions for shape in instruction.shapes):
                state = self._called(instruction)
                return state[0] if len(state) == 1 else None
            case "compare":
                return self._compare(instruction)
            case opcode if opcode in _PASS_ON and instruction.operands:
                return self.scalar(instruction.operands[0])
            case opcode if opcode in _ARITHMETIC:
                left, right = (self.scalar(each) for each in instruction.operands)
                return None if left is None or right is None else _ARITHMETIC[opcode](left, right)
        return None

    def _compare(self, instruction: Instruction) -> int | None:
        direction = instruction.attributes.split("direction=", 1)[1][:2]
        left, right = (self.scalar(each) for each in instruction.operands)
        return None if left is None or right is None else int(_COMPARE[direction](left, right))

    def state(self, name: str) -> State:
        """Return what is known of each element of a tuple; of a scalar, a state of one."""
        instruction = self.computation.by_name.get(name)
        if instruction is None:
            return ()
        if instruction.opcode == "parameter":
            number = int(instruction.operand_text)
            return self.arguments[number] if number < len(self.arguments) else ()
        if instruction.opcode == "tuple":
            return tuple(self.scalar(each) for each in instruction.operands)
        if instruction.opcode in {"fusion", "call"} and len(instruction.shapes) > 1:
            return self._called(instruction)
        return (self.scalar(name),)

    def _called(self, instruction: Instruction) -> State:
        inner = self.module.computations[instruction.called("calls") or instruction.called("to_apply")]
        arguments = tuple(self.state(each) for each in instruction.operands)
        return _Scope(self.module, inner, arguments).state(inner.root.name)


def _whole(text: str) -> int | None:
    text = {"true": "1", "false": "0"}.get(text.strip(), text.strip())
    return int(text) if text.lstrip("-").isdigit() else None


def trip_count(module: Module, computation: Computation, loop: Instruction) -> int | None:
    """Return how often the loop's body runs; None where that depends on data or exceeds MOST_TRIPS."""
    if '"known_trip_count":{"n":"' in loop.attributes:
        return int(loop.attributes.split('"known_trip_count":{"n":"', 1)[1].split('"')[0])
    condition = module.computations[loop.called("condition")]
    body = module.computations[loop.called("body")]
    state = _Scope(module, computation, ()).state(loop.operands[0])
    for trips in range(MOST_TRIPS):
        goes_on = _Scope(module, condition, (state,)).scalar(condition.root.name)
        if goes_on is None:
            return None
        if not goes_on:
            return trips
        state = _Scope(module, body, (state,)).state(body.root.name)
    return None
