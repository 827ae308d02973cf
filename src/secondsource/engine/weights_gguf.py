"""A GGUF file: its metadata, and its weights taken out of whatever quantisation they are in."""

from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, ReaderTensor, dequantize

from secondsource.core.errors import InputError
from secondsource.engine.abstract import WeightFormat
from secondsource.engine.config import ModelConfig
from secondsource.engine.config_gguf import config_gguf
from secondsource.engine.families import FAMILIES
from secondsource.engine.parameters import Parameters
from secondsource.engine.weights import Tensor, assemble

_FREQUENCIES = "rope_freqs.weight"


class GgufModel:
    """One open GGUF file; the file is mapped, and a tensor is read when it is asked for."""

    def __init__(self, path: Path) -> None:
        """Open `path`; raises InputError when it is not a GGUF file of a model of ours."""
        self._path = path
        try:
            reader = GGUFReader(path)
        except (OSError, ValueError, KeyError, IndexError) as error:
            raise InputError(f"{path}: a GGUF file was expected, and a whole one: {error}") from error
        self.metadata: dict[str, Any] = {name: field.contents() for name, field in reader.fields.items()}
        self._tensors: dict[str, ReaderTensor] = {tensor.name: tensor for tensor in reader.tensors}
        self.config = self._config()
        self._interleaved = {
            f"blk.{layer}.attn_{which}.weight": heads
            for layer in range(self.config.layers)
            for which, heads in (("q", self.config.heads), ("k", self.config.kv_heads))
            if FAMILIES[self.config.family].interleaved_rotary
        }

    def parameters(self, weights: WeightFormat) -> Parameters:
        """Return the weights on the default device."""
        return assemble(self.config, self.tensor, weights)

    def tensor(self, name: str) -> Tensor:
        """Return a tensor in float32, query and key rows in the order for rotating halves."""
        found = self._tensors.get(name)
        if found is None:
            raise InputError(f"{self._path}: the tensor {name} is missing; is the file whole?")
        values = dequantize(found.data, found.tensor_type).astype(np.float32, copy=False)
        if name not in self._interleaved:
            return values
        heads, inputs = self._interleaved[name], values.shape[1]
        # Row 2i + h of a head was row i of its half h before llama.cpp's converter turned them round.
        return values.reshape(heads, -1, 2, inputs).swapaxes(1, 2).reshape(values.shape)

    def _config(self) -> ModelConfig:
        divisors = [float(one) for one in self.tensor_or_nothing(_FREQUENCIES)]
        embedding = self._tensors.get("token_embd.weight")
        return config_gguf(
            self.metadata,
            vocabulary=int(embedding.shape[1]) if embedding else 0,
            tied="output.weight" not in self._tensors,
            rope_divisors=divisors,
            where=str(self._path),
        )

    def tensor_or_nothing(self, name: str) -> Tensor:
        """Return a tensor without any reordering; empty when the file has none of this name."""
        found = self._tensors.get(name)
        return np.zeros(0, np.float32) if found is None else np.asarray(found.data, np.float32)
