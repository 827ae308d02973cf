"""Parameters put together from a source of named tensors; the names are GGUF's, whatever the file is."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from secondsource.engine.abstract import QUANTIZED_FORMS, WeightFormat, activation_dtype
from secondsource.engine.config import ModelConfig
from secondsource.engine.parameters import Layer, Parameters, QuantizedProduct
from secondsource.engine.weights_int8 import quantized, summed_last

Tensor = np.ndarray[Any, np.dtype[np.float32]]


def assemble(config: ModelConfig, read: Callable[[str], Tensor], weights: WeightFormat) -> Parameters:
    """Return the model's parameters on the default device.

    `read` returns a tensor by its name in GGUF, in float32: a matrix as [outputs, inputs], a norm's weight as
    the whole factor, query and key rows in the order for rotating halves.
    """
    table = _Maker(weights)
    return Parameters(
        embedding=table.matrix(read("token_embd.weight"), (1,)),
        layers=tuple(_layer(config, read, f"blk.{index}.", table) for index in range(config.layers)),
        final_norm=table.norm(read("output_norm.weight")),
        unembedding=None if config.tied_embeddings else table.matrix(read("output.weight"), (1,)),
    )


def _layer(config: ModelConfig, read: Callable[[str], Tensor], prefix: str, make: "_Maker") -> Layer:
    kv_heads, group, head_width, width = config.kv_heads, config.group, config.head_width, config.width

    def matrix(name: str) -> Tensor:
        return read(f"{prefix}{name}.weight")

    def norm(name: str, present: bool = True) -> Any:
        return make.norm(matrix(name)) if present else None

    key_value = np.stack([matrix("attn_k"), matrix("attn_v")]).reshape(2, kv_heads, head_width, width)
    gate_up = np.stack([matrix("ffn_gate"), matrix("ffn_up")])
    return Layer(
        attention_norm=norm("attn_norm"),
        query=make.matrix(matrix("attn_q").T.reshape(width, kv_heads, group, head_width), (0,)),
        key_value=make.matrix(np.moveaxis(key_value, -1, 0), (0,)),
        query_norm=norm("attn_q_norm", config.query_key_norm),
        key_norm=norm("attn_k_norm", config.query_key_norm),
        output=make.matrix(matrix("attn_output").T.reshape(kv_heads, group, head_width, width), (0, 1, 2)),
        attention_post_norm=norm("post_attention_norm", config.sandwich_norms),
        feed_forward_norm=norm("ffn_norm"),
        gate_up=make.matrix(np.moveaxis(gate_up, -1, 0), (0,)),
        down=make.matrix(matrix("ffn_down").T, (0,)),
        feed_forward_post_norm=norm("post_ffw_norm", config.sandwich_norms),
    )


class _Maker:
    """Makes arrays in one weight format."""

    def __init__(self, weights: WeightFormat) -> None:
        self._form = QUANTIZED_FORMS.get(weights)
        self._dtype = activation_dtype(weights)

    def norm(self, values: Tensor) -> Any:
        """Return a norm's weight."""
        return jnp.asarray(values, self._dtype)

    def matrix(self, values: Tensor, summed: tuple[int, ...]) -> Any:
        """Return a matrix; `summed` are the axes that its product sums over."""
        if self._form is QuantizedProduct:
            values, summed = summed_last(values, summed)
        if self._form is not None:
            return self._form(*quantized(values, summed))
        return jnp.asarray(np.ascontiguousarray(values), self._dtype)
