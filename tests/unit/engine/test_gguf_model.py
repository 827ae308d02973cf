"""A GGUF file, written with the `gguf` package, loads as the same model that safetensors hold."""

from pathlib import Path

import gguf
import jax
import numpy as np
import pytest

from secondsource.core.errors import InputError
from secondsource.engine.load import load_model
from secondsource.engine.tokenizer import byte_characters
from secondsource.engine.weights_gguf import GgufModel
from secondsource.engine.weights_safetensors import SafetensorsModel
from tests.contract.engine_tiny import DOCUMENTS, write_model

PIECES = [*byte_characters()[32:124], "Ġa", "he", "<|end|>", "<b>"]
NUMBERS = {
    "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "context_length": "max_position_embeddings",
}


def write_gguf(path: Path, model: SafetensorsModel) -> Path:
    """Write the tiny llama as llama.cpp's converter would: query and key rows turned round."""
    document = DOCUMENTS["llama"]
    writer = gguf.GGUFWriter(path, "llama")
    for key, name in NUMBERS.items():
        writer.add_uint32(f"llama.{key}", document[name])
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", document["rms_norm_eps"])
    writer.add_float32("llama.rope.freq_base", document["rope_theta"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(PIECES)
    writer.add_token_types([1] * 94 + [3, 4])
    writer.add_token_merges(["Ġ a", "h e"])
    writer.add_eos_token_id(94)
    writer.add_chat_template("{{ messages[0].content }}{{ eos_token }}")
    names = ["token_embd", "output_norm", "output"]
    parts = ("attn_q", "attn_k", "attn_v", "attn_output", "attn_norm", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down")
    names += [f"blk.{layer}.{part}" for layer in range(model.config.layers) for part in parts]
    for name in names:
        values = model.tensor(f"{name}.weight")
        if name.endswith(("attn_q", "attn_k")):
            heads = model.config.heads if name.endswith("q") else model.config.kv_heads
            values = values.reshape(heads, 2, -1, values.shape[1]).swapaxes(1, 2).reshape(values.shape)
        writer.add_tensor(f"{name}.weight", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SafetensorsModel]:
    directory = tmp_path_factory.mktemp("gguf")
    model = SafetensorsModel(write_model("llama", directory))
    return write_gguf(directory / "tiny.gguf", model), model


def test_weights_and_numbers_are_those_of_the_safetensors(files: tuple[Path, SafetensorsModel]) -> None:
    path, model = files
    found = GgufModel(path)
    assert found.config.width == model.config.width
    assert found.config.rope_base == model.config.rope_base
    theirs = jax.tree.leaves(model.parameters("float32"))
    for one, other in zip(jax.tree.leaves(found.parameters("float32")), theirs, strict=True):
        assert np.array_equal(one, other)


def test_a_text_comes_back_from_its_tokens(files: tuple[Path, SafetensorsModel]) -> None:
    model = load_model(files[0], "float32")
    tokens = model.tokenizer.encode("<b> a")
    assert tokens == [95, 92]
    assert model.tokenizer.decode(tokens) == "<b> a"
    assert model.tokenizer.decode([94, 92]) == " a"  # a control token is no text
    assert (model.tokenizer.token_bytes(94), model.tokenizer.token_text(94)) == (b"", "<|end|>")
    assert model.tokenizer.ends == frozenset({94})
    assert model.chat_template is not None
    assert model.chat_template.render([{"role": "user", "content": "hi"}]) == "hi<|end|>"


def test_what_is_no_model_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"not a model at all, and long enough to be looked at")
    with pytest.raises(InputError, match="a GGUF file was expected"):
        load_model(tmp_path / "x.gguf", "float32")
    with pytest.raises(InputError, match="there is neither"):
        load_model(tmp_path / "none", "float32")
    with pytest.raises(InputError, match=r"config\.json"):
        load_model(tmp_path, "float32")
