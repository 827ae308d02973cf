"""A model's numbers from its own files: both of transformers' ways to say them, and GGUF's."""

import math

import pytest

from secondsource.core.errors import InputError
from secondsource.engine.config_gguf import config_gguf
from secondsource.engine.config_huggingface import config_huggingface
from tests.contract.engine_tiny import DOCUMENTS

LLAMA, SCALED, GEMMA = DOCUMENTS["llama"], DOCUMENTS["llama-scaled"], DOCUMENTS["gemma3"]


def test_transformers_5_says_the_same_as_transformers_4() -> None:
    newer = {key: value for key, value in SCALED.items() if not key.startswith("rope_")}
    newer["rope_parameters"] = SCALED["rope_scaling"] | {"rope_theta": SCALED["rope_theta"]}
    assert config_huggingface(newer) == config_huggingface(SCALED)
    newer = {key: value for key, value in GEMMA.items() if not key.startswith("rope_") and "pattern" not in key}
    newer["layer_types"] = ["sliding_attention"] * 5 + ["full_attention"]
    newer["rope_parameters"] = {
        "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1000000.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
    }
    assert config_huggingface(newer) == config_huggingface(GEMMA)


def test_llama_3_1s_scaling_leaves_high_frequencies_and_divides_low_ones_by_the_factor() -> None:
    divisors = config_huggingface(SCALED).rope_divisors
    assert divisors[0] == 1.0
    assert divisors[-1] == 8.0
    assert list(divisors) == sorted(divisors)
    assert any(1.0 < one < 8.0 for one in divisors)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"architectures": ["MixtralForCausalLM"]}, "found MixtralForCausalLM"),
        ({"architectures": None}, "no architectures key"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "'yarn' found"),
        ({"hidden_size": "wide"}, "hidden_size"),
        ({"attention_bias": True}, "biases"),
        ({"num_attention_heads": 0}, "num_attention_heads"),
        ({"num_attention_heads": 4, "num_key_value_heads": 3}, "multiple of num_key_value_heads"),
    ],
)
def test_a_config_that_is_not_ours_is_told_so(change: dict[str, object], text: str) -> None:
    with pytest.raises(InputError, match=text):
        config_huggingface(LLAMA | change)


GGUF_GEMMA: dict[str, object] = {
    "general.architecture": "gemma3",
    "gemma3.block_count": 6,
    "gemma3.embedding_length": 48,
    "gemma3.feed_forward_length": 80,
    "gemma3.attention.head_count": 4,
    "gemma3.attention.head_count_kv": 2,
    "gemma3.attention.key_length": 16,
    "gemma3.attention.sliding_window": 8,
    "gemma3.attention.layer_norm_rms_epsilon": 1e-5,
    "gemma3.context_length": 4096,
    "gemma3.rope.freq_base": 1000000.0,
    "gemma3.rope.scaling.type": "linear",
    "gemma3.rope.scaling.factor": 4.0,
}


def test_gguf_says_the_same_as_hugging_face() -> None:
    theirs = config_huggingface({**GEMMA, "query_pre_attn_scalar": None})
    assert config_gguf(GGUF_GEMMA, vocabulary=96, tied=True, rope_divisors=(), where="x.gguf") == theirs
    assert theirs.embedding_scale == math.sqrt(48)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"general.architecture": "mamba"}, r"'mamba'; one of llama, qwen3, gemma3"),
        ({"gemma3.block_count": None}, r"gemma3\.block_count is missing"),
        ({"gemma3.attention.head_count_kv": [1, 2]}, "one number was expected"),
    ],
)
def test_metadata_that_is_not_ours_is_told_so(change: dict[str, object], text: str) -> None:
    with pytest.raises(InputError, match=text):
        config_gguf(GGUF_GEMMA | change, vocabulary=96, tied=True, rope_divisors=(), where="x.gguf")
