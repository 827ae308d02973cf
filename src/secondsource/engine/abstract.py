"""A model's parameters and cache as shapes alone: what compiling for a chip needs, without any weight."""

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from secondsource.engine.cache import Cache, CacheFormat, empty_cache
from secondsource.engine.config import ModelConfig
from secondsource.engine.parameters import SUMMED_AXES, Layer, Parameters, Quantized, QuantizedProduct

# int8: the matrices; norms and activations are bf16. int8-cpu: the same matrices, multiplied in int8, with
# float32 activations: the fast way on a CPU.
WeightFormat = Literal["float32", "bf16", "int8", "int8-cpu"]
QUANTIZED_FORMS: dict[str, type[Quantized] | type[QuantizedProduct]] = {
    "int8": Quantized,
    "int8-cpu": QuantizedProduct,
}


def layer_shapes(config: ModelConfig) -> Layer:
    """Return the shape of each of a layer's arrays in its place; None for a norm that the family has not."""
    heads = (config.kv_heads, config.group, config.head_width)
    head_norm = (config.head_width,) if config.query_key_norm else None
    post_norm = (config.width,) if config.sandwich_norms else None
    return Layer(
        attention_norm=(config.width,),
        query=(config.width, *heads),
        key_value=(config.width, 2, config.kv_heads, config.head_width),
        query_norm=head_norm,
        key_norm=head_norm,
        output=(*heads, config.width),
        attention_post_norm=post_norm,
        feed_forward_norm=(config.width,),
        gate_up=(config.width, 2, config.feed_forward_width),
        down=(config.feed_forward_width, config.width),
        feed_forward_post_norm=post_norm,
    )


def abstract_parameters(config: ModelConfig, weights: WeightFormat) -> Parameters:
    """Return the parameters with a `jax.ShapeDtypeStruct` in each array's place."""
    plain = activation_dtype(weights)
    shapes = layer_shapes(config)
    form = QUANTIZED_FORMS.get(weights)

    def matrix(shape: tuple[int, ...], summed: int) -> Any:
        if form is None:
            return jax.ShapeDtypeStruct(shape, plain)
        outputs = shape[:1] if summed == 0 else shape[summed:]
        if form is QuantizedProduct and summed:
            shape = (*outputs, *shape[:summed])
        return form(jax.ShapeDtypeStruct(shape, jnp.int8), jax.ShapeDtypeStruct(outputs, jnp.float32))

    def norm(shape: tuple[int, ...] | None) -> Any:
        return None if shape is None else jax.ShapeDtypeStruct(shape, plain)

    layer = Layer(
        *(
            matrix(shape, SUMMED_AXES[name]) if name in SUMMED_AXES else norm(shape)
            for name, shape in zip(Layer._fields, shapes, strict=True)
        )
    )
    table = matrix((config.vocabulary, config.width), 0)
    return Parameters(
        embedding=table,
        layers=(layer,) * config.layers,
        final_norm=norm((config.width,)),
        unembedding=None if config.tied_embeddings else table,
    )


def abstract_cache(
    config: ModelConfig, slots: int, context_tokens: int, weights: WeightFormat, form: CacheFormat = "plain"
) -> Cache:
    """Return the cache beside weights of a format, with a `jax.ShapeDtypeStruct` in each array's place."""
    make = functools.partial(empty_cache, config, slots, context_tokens, activation_dtype(weights), form)
    cache: Cache = jax.eval_shape(make)
    return cache


def activation_dtype(weights: WeightFormat) -> np.dtype[Any]:
    """Return the dtype of activations, norms and cache beside weights of this format."""
    dtype: np.dtype[Any] = np.dtype(jnp.float32 if weights in {"float32", "int8-cpu"} else jnp.bfloat16)
    return dtype
