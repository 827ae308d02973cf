import json
from pathlib import Path

import pytest

from secondsource.core.errors import InputError
from secondsource.port.models import find_model, portable_names

PUBLISHED_BILLIONS = {
    "smollm2-135m": 0.135, "llama-3.2-1b": 1.24, "llama-3.2-3b": 3.21, "qwen3-0.6b": 0.6, "qwen3-4b": 4.0,
    "qwen3-14b": 14.8, "gemma-3-1b": 1.0, "gemma-3-4b": 3.88, "llama-3.1-8b": 8.03, "llama-3.1-70b": 70.6,
    "llama-3.1-405b": 405.8, "qwen3-8b": 8.2, "qwen3-32b": 32.8, "gemma-3-12b": 11.8, "gemma-3-27b": 27.0,
    "gemma-3-270m": 0.268, "llama-2-70b": 69.0,
}  # fmt: skip


@pytest.mark.parametrize("name", portable_names())
def test_known_models_have_their_published_size(name: str) -> None:
    model = find_model(name)
    assert model.architecture.parameters / 1e9 == pytest.approx(PUBLISHED_BILLIONS[name], rel=0.03)
    assert model.config.layers == model.architecture.layers
    assert len(model.config.local_layers) == model.architecture.window_layers


def test_an_alias_is_the_same_model() -> None:
    assert find_model("meta-llama/Llama-3.3-70B-Instruct").config == find_model("llama-3.1-70b").config


def test_a_model_with_experts_is_refused_with_those_that_can() -> None:
    with pytest.raises(InputError, match=r"mixtral-8x7b: the portable decoder expresses dense models .*llama-3\.1-8b"):
        find_model("mixtral-8x7b")


def test_a_config_json_is_a_model(tmp_path: Path) -> None:
    document = {
        "architectures": ["Qwen3ForCausalLM"], "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 128, "vocab_size": 256,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(document))
    for path in (tmp_path, tmp_path / "config.json"):
        found = find_model(str(path))
        assert found.name == tmp_path.name
        assert found.config.family == "qwen3"
        assert found.architecture.kv_heads == 2


@pytest.mark.parametrize("text", ["", "[1]", "{"])
def test_a_damaged_config_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"config\.json"):
        find_model(str(path))
