"""A model from its files: a GGUF, or a Hugging Face directory."""

from pathlib import Path

import msgspec

from secondsource.engine.abstract import WeightFormat
from secondsource.engine.chat_template import ChatTemplate
from secondsource.engine.config import ModelConfig
from secondsource.engine.parameters import Parameters
from secondsource.engine.tokenizer import Tokenizer


class LoadedModel(msgspec.Struct, frozen=True, kw_only=True):
    """All that serving a model needs."""

    name: str
    config: ModelConfig
    parameters: Parameters  # on the host's default device
    tokenizer: Tokenizer
    chat_template: ChatTemplate | None  # a base model has none


def load_model(path: Path, weights: WeightFormat) -> LoadedModel:
    """Return the model at `path`; raises InputError, saying what was expected, when it cannot be read."""
    raise NotImplementedError
