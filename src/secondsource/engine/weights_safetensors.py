"""A Hugging Face directory: `config.json` and weights in one or many safetensors files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from secondsource.core.errors import InputError
from secondsource.engine.abstract import WeightFormat
from secondsource.engine.config_huggingface import config_huggingface
from secondsource.engine.families import FAMILIES
from secondsource.engine.parameters import Parameters
from secondsource.engine.weights import Tensor, assemble

_NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_SANDWICH_NAMES = {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_WHOLE_NAMES = {"token_embd.weight": "embed_tokens.weight", "output_norm.weight": "norm.weight"}


class SafetensorsModel:
    """One Hugging Face directory."""

    def __init__(self, directory: Path) -> None:
        """Read `config.json` and the files' tables of contents; raises InputError for what is not there."""
        self._directory = directory
        self.config = config_huggingface(_json(directory / "config.json"), str(directory / "config.json"))
        family = FAMILIES[self.config.family]
        self._names = _NAMES | (_SANDWICH_NAMES if family.sandwich_norms else {})
        self._norm_offset = family.norm_offset
        self._file_of = self._contents()
        self._prefix = next(
            (name.removesuffix("embed_tokens.weight") for name in self._file_of if "embed_tokens" in name), ""
        )

    def parameters(self, weights: WeightFormat) -> Parameters:
        """Return the weights on the default device."""
        return assemble(self.config, self.tensor, weights)

    def tensor(self, name: str) -> Tensor:
        """Return the tensor of this GGUF name in float32, a norm's weight as the whole factor."""
        own = self._own_name(name)
        path = self._file_of.get(own)
        if path is None:
            raise InputError(f"{self._directory}: the tensor {own} is in none of its safetensors files")
        try:
            with safe_open(path, framework="numpy") as file:
                values = np.asarray(file.get_tensor(own)).astype(np.float32)
        except (SafetensorError, TypeError) as error:
            raise InputError(f"{path}: {own}: {error}") from error
        return values + np.float32(self._norm_offset) if own.endswith("norm.weight") else values

    def _own_name(self, name: str) -> str:
        if name == "output.weight":
            return "lm_head.weight" if "lm_head.weight" in self._file_of else "language_model.lm_head.weight"
        if name in _WHOLE_NAMES:
            return self._prefix + _WHOLE_NAMES[name]
        _, layer, part, _ = name.split(".")
        return f"{self._prefix}layers.{layer}.{self._names[part]}.weight"

    def _contents(self) -> dict[str, Path]:
        index = self._directory / "model.safetensors.index.json"
        if index.exists():
            table = _json(index).get("weight_map")
            if isinstance(table, dict):
                return {str(name): self._directory / str(file) for name, file in table.items()}
        found: dict[str, Path] = {}
        for path in sorted(self._directory.glob("*.safetensors")):
            try:
                with safe_open(path, framework="numpy") as file:
                    found.update(dict.fromkeys(file.keys(), path))
            except SafetensorError as error:
                raise InputError(f"{path}: a safetensors file was expected: {error}") from error
        if not found:
            raise InputError(f"{self._directory}: no *.safetensors file; weights in safetensors were expected")
        return found


def _json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: a JSON file of a Hugging Face model was expected: {error}") from error
    if not isinstance(document, dict):
        raise InputError(f"{path}: a JSON object was expected")
    return document
