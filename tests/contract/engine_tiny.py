"""Tiny random models, one for each way a family departs from the plain decoder: the same numbers on every machine.

Only numpy and safetensors, so that the script that asks transformers for its logits can make them too.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

VOCABULARY = 96
TOKENS = 40
_COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "torch_dtype": "float32",
}
DOCUMENTS: dict[str, dict[str, Any]] = {
    "llama": _COMMON | {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "rope_theta": 500000.0},
    "llama-tied": _COMMON
    | {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "tie_word_embeddings": True,
        "num_key_value_heads": 1,
        "rope_theta": 10000.0,
    },
    "llama-scaled": _COMMON
    | {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "rope_theta": 100.0,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    },
    "qwen3": _COMMON | {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "rope_theta": 1000000.0},
    "gemma3": _COMMON
    | {
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        "num_hidden_layers": 6,
        "sliding_window": 8,
        "sliding_window_pattern": 6,
        "query_pre_attn_scalar": 24,
        "hidden_activation": "gelu_pytorch_tanh",
        "tie_word_embeddings": True,
        "rope_theta": 1000000.0,
        "rope_local_base_freq": 10000.0,
        "rope_scaling": {"rope_type": "linear", "factor": 4.0},
    },
}


def tokens() -> "np.ndarray[Any, np.dtype[np.int64]]":
    """Return the tokens that every oracle reads, [2, TOKENS]."""
    return np.random.default_rng(7).integers(0, VOCABULARY, (2, TOKENS))


def write_model(name: str, directory: Path) -> Path:
    """Write `config.json` and `model.safetensors` of the model of this name; return the directory."""
    document = DOCUMENTS[name]
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(document))
    random = np.random.default_rng(sum(name.encode()))
    tensors = {}
    for tensor, shape in _shapes(document).items():
        spread = 0.3 if len(shape) == 1 else 1.5 / np.sqrt(shape[-1])
        centre = 1.0 if len(shape) == 1 and document["model_type"] != "gemma3_text" else 0.0
        tensors[tensor] = (centre + spread * random.standard_normal(shape)).astype(np.float32)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def _shapes(document: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    width, wide, head = document["hidden_size"], document["intermediate_size"], document["head_dim"]
    queries, pairs = document["num_attention_heads"] * head, document["num_key_value_heads"] * head
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (document["vocab_size"], width)}
    for layer in range(document["num_hidden_layers"]):
        parts: dict[str, tuple[int, ...]] = {
            "input_layernorm": (width,),
            "self_attn.q_proj": (queries, width),
            "self_attn.k_proj": (pairs, width),
            "self_attn.v_proj": (pairs, width),
            "self_attn.o_proj": (width, queries),
            "post_attention_layernorm": (width,),
            "mlp.gate_proj": (wide, width),
            "mlp.up_proj": (wide, width),
            "mlp.down_proj": (width, wide),
        }
        if document["model_type"] != "llama":
            parts |= {"self_attn.q_norm": (head,), "self_attn.k_norm": (head,)}
        if document["model_type"] == "gemma3_text":
            parts |= {"pre_feedforward_layernorm": (width,), "post_feedforward_layernorm": (width,)}
        shapes |= {f"model.layers.{layer}.{part}.weight": shape for part, shape in parts.items()}
    shapes["model.norm.weight"] = (width,)
    if not document.get("tie_word_embeddings"):
        shapes["lm_head.weight"] = (document["vocab_size"], width)
    return shapes
