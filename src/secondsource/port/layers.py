"""What belongs to which layer of a compiled step: where each ends, and what its weights and cache take in memory.

XLA names an entry's parameters after the arguments they are (`parameters.layers[3].down.values`), and a weight reaches
its product through copies into the core's memory at most. So the product with `down`, the last weight of a layer, is
found by following the parameter.
"""

import re

from secondsource.port.hlo import Computation

_LAST_WEIGHT = re.compile(r'op_name="parameters\.layers\[(\d+)\]\.down')
_OF_A_LAYER = re.compile(r'op_name="(?:parameters\.layers|cache\.keys|cache\.values)\[(\d+)\]')
_PASS_ON = {
    "bitcast", "copy", "copy-start", "copy-done", "slice", "slice-start", "slice-done", "async-start", "async-done",
    "tuple", "get-tuple-element", "custom-call", "reshape", "transpose", "optimization-barrier",
}  # fmt: skip


def layer_ends(entry: Computation) -> dict[str, int]:
    """Return, by the name of the instruction that ends it, each layer's number; {} where no parameter tells."""
    carries: dict[str, int] = {}
    ends: dict[int, str] = {}
    for instruction in entry.instructions:
        if instruction.opcode == "parameter":
            found = _LAST_WEIGHT.search(instruction.attributes)
            if found:
                carries[instruction.name] = int(found[1])
            continue
        layers = {carries[name] for name in instruction.operands if name in carries}
        if len(layers) != 1:
            continue
        (layer,) = layers
        if instruction.opcode in _PASS_ON:
            carries[instruction.name] = layer
        else:
            ends[layer] = instruction.name
    return {name: layer for layer, name in ends.items()}


def layer_bytes(entry: Computation) -> tuple[int, ...]:
    """Return what each layer's weights and cache take on one device, in the compiler's layouts; () where none tell."""
    held: dict[int, float] = {}
    for instruction in entry.instructions:
        found = _OF_A_LAYER.search(instruction.attributes) if instruction.opcode == "parameter" else None
        if found:
            taken = sum(shape.bytes for shape in instruction.shapes)
            held[int(found[1])] = held.get(int(found[1]), 0.0) + taken
    return tuple(round(held[number]) for number in sorted(held))
