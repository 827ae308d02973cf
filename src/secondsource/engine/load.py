"""A model from its files: a GGUF, or a Hugging Face directory."""

from pathlib import Path

import msgspec

from secondsource.core.errors import InputError
from secondsource.engine.abstract import WeightFormat
from secondsource.engine.chat_template import ChatTemplate
from secondsource.engine.config import ModelConfig
from secondsource.engine.parameters import Parameters
from secondsource.engine.tokenizer import Tokenizer
from secondsource.engine.tokenizer_gguf import tokenizer_gguf
from secondsource.engine.tokenizer_huggingface import optional_json, special_text, tokenizer_huggingface
from secondsource.engine.weights_gguf import GgufModel
from secondsource.engine.weights_safetensors import SafetensorsModel


class LoadedModel(msgspec.Struct, frozen=True, kw_only=True):
    """All that serving a model needs."""

    name: str
    config: ModelConfig
    parameters: Parameters  # on the host's default device
    tokenizer: Tokenizer
    chat_template: ChatTemplate | None  # a base model has none


def load_model(path: Path, weights: WeightFormat) -> LoadedModel:
    """Return the model at `path`; raises InputError, saying what was expected, when it cannot be read."""
    if path.is_dir():
        return _from_directory(path, weights)
    if path.exists():
        return _from_gguf(path, weights)
    raise InputError(f"{path}: a GGUF file or a Hugging Face directory was expected; there is neither")


def _from_gguf(path: Path, weights: WeightFormat) -> LoadedModel:
    model = GgufModel(path)
    metadata = model.metadata
    pieces = metadata.get("tokenizer.ggml.tokens")
    if not isinstance(pieces, list):
        raise InputError(
            f"{path}: the metadata key tokenizer.ggml.tokens is missing; a model with its tokenizer was expected"
        )

    def text(key: str) -> str:
        number = metadata.get(f"tokenizer.ggml.{key}")
        return pieces[number] if isinstance(number, int) and number < len(pieces) else ""

    source = metadata.get("tokenizer.chat_template")
    return LoadedModel(
        name=path.stem,
        config=model.config,
        parameters=model.parameters(weights),
        tokenizer=tokenizer_gguf(metadata, str(path)),
        chat_template=_template(source, text("bos_token_id"), text("eos_token_id")),
    )


def _from_directory(directory: Path, weights: WeightFormat) -> LoadedModel:
    model = SafetensorsModel(directory)
    config = optional_json(directory / "tokenizer_config.json")
    file = directory / "chat_template.jinja"
    source = file.read_text("utf-8") if file.exists() else config.get("chat_template")
    return LoadedModel(
        name=directory.resolve().name,
        config=model.config,
        parameters=model.parameters(weights),
        tokenizer=tokenizer_huggingface(directory, vocabulary=model.config.vocabulary),
        chat_template=_template(source, special_text(config, "bos_token"), special_text(config, "eos_token")),
    )


def _template(source: object, beginning: str, end: str) -> ChatTemplate | None:
    return ChatTemplate(source, beginning=beginning, end=end) if isinstance(source, str) and source else None
