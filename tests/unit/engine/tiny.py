"""A tiny random model, loaded once for each family."""

import functools
import tempfile
from pathlib import Path

from secondsource.engine.abstract import WeightFormat
from secondsource.engine.config import ModelConfig
from secondsource.engine.parameters import Parameters
from secondsource.engine.weights_safetensors import SafetensorsModel
from tests.contract.engine_tiny import write_model


@functools.cache
def tiny_model(name: str, weights: WeightFormat = "float32") -> tuple[ModelConfig, Parameters]:
    """Return the config and the parameters of the tiny model of this name."""
    with tempfile.TemporaryDirectory() as directory:
        model = SafetensorsModel(write_model(name, Path(directory)))
        return model.config, model.parameters(weights)
