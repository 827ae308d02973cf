"""Architecture numbers add up to what the makers publish."""

import pytest

from secondsource.core.errors import InputError
from secondsource.profiles.models import one_model, parse_models, shipped_models

PUBLISHED_BILLIONS = {
    "llama-2-70b": 69,
    "llama-3.1-8b": 8.03,
    "llama-3.1-70b": 70.6,
    "llama-3.1-405b": 405,
    "qwen2.5-7b": 7.62,
    "qwen2.5-32b": 32.8,
    "qwen2.5-72b": 72.7,
    "qwen3-8b": 8.2,
    "qwen3-32b": 32.8,
    "qwen3-30b-a3b": 30.5,
    "qwen3-235b-a22b": 235,
    "qwen3-coder-480b-a35b": 480,
    "qwen3.5-397b-a17b": 397,
    "mixtral-8x7b": 46.7,
    "mixtral-8x22b": 141,
    "deepseek-v3": 671,
    "deepseek-v3.2": 671,
    "kimi-k2.5": 1026,
    "glm-5": 744,
    "minimax-m2.5": 229,
    "gpt-oss-20b": 20.9,
    "gpt-oss-120b": 117,
    "gemma-2-27b": 27.2,
    "gemma-3-270m": 0.268,
    "gemma-3-12b": 11.8,
    "gemma-3-27b": 27.0,
}


@pytest.mark.parametrize("name", [model.name for model in shipped_models()])
def test_a_models_parameters_are_what_its_maker_publishes(name: str) -> None:
    assert one_model(name).parameters / 1e9 == pytest.approx(PUBLISHED_BILLIONS[name], rel=0.01)


def test_every_published_size_is_of_a_shipped_model() -> None:
    assert set(PUBLISHED_BILLIONS) == {model.name for model in shipped_models()}


def test_cache_sizes_are_those_of_the_papers() -> None:
    assert one_model("llama-3.1-70b").cache_elements(1) * 2 == 327_680  # bytes: 80 layers, 8 heads of 128, K and V
    assert one_model("deepseek-v3").cache_elements(1) * 2 == 70_272  # 61 layers of 512 + 64
    gemma = one_model("gemma-3-27b")
    assert gemma.cache_elements(100_000) < 0.25 * 100_000 * gemma.cache_elements(1)  # windows forget


def test_a_model_has_its_makers_name_too_and_an_unknown_one_a_suggestion() -> None:
    assert one_model("deepseek-ai/DeepSeek-R1").name == "deepseek-v3"
    assert one_model("LLAMA-3.3-70B").name == "llama-3.1-70b"
    with pytest.raises(InputError, match=r'no numbers for the model "llama-3.1-71b"; did you mean "llama-3.1-70b"'):
        one_model("llama-3.1-71b")


def test_a_wrong_model_file_names_the_key() -> None:
    with pytest.raises(InputError, match=r"mine.toml: .*layerz"):
        parse_models("[[models]]\nname = 'x'\nlayerz = 3\n", "mine.toml")
    with pytest.raises(InputError, match=r"mine.toml: "):
        parse_models("[[models]\n", "mine.toml")
