"""Write a GGUF file again with other weights' precision or other metadata: the faults that live in a file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np

KEPT = {gguf.GGMLQuantizationType.F32}  # norms


def rewrite(
    source: Path,
    target: Path,
    weights: gguf.GGMLQuantizationType | None = None,
    dropped_layers: Sequence[int] = (),
    **changed: Any,
) -> Path:
    """Return `target`, which is `source` with its matrices in the precision `weights`, and without some layers.

    `changed` are metadata by their keys, with "__" for "."; None takes one out.
    """
    reader = gguf.GGUFReader(source)
    if dropped_layers:
        count = f"{reader.fields['general.architecture'].contents()}.block_count"
        changed[count.replace(".", "__")] = reader.fields[count].contents() - len(dropped_layers)
    changes = {key.replace("__", "."): value for key, value in changed.items()}
    writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents())
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key == "general.architecture":
            continue
        kind, sub = field.types[0], field.types[-1] if field.types[0] is gguf.GGUFValueType.ARRAY else None
        value = changes.pop(key, field.contents())
        if value is not None:
            writer.add_key_value(key, value, kind, sub_type=sub)
    for key, value in changes.items():
        writer.add_key_value(key, value, gguf.GGUFValueType.get_type(value))
    for tensor in reader.tensors:
        data, kind = tensor.data, tensor.tensor_type
        name = _renumbered(tensor.name, dropped_layers)
        if name is None:
            continue
        if weights is not None and kind not in KEPT:
            data, kind = gguf.quantize(gguf.dequantize(data, kind), weights), weights
        writer.add_tensor(name, np.ascontiguousarray(data), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def _renumbered(name: str, dropped: Sequence[int]) -> str | None:
    """Return the name of a tensor once some layers are gone, or None when it is of one of them."""
    start, _, rest = name.partition(".")
    if start != "blk":
        return name
    layer, _, of_layer = rest.partition(".")
    number = int(layer)
    return None if number in dropped else f"blk.{number - sum(one < number for one in dropped)}.{of_layer}"
