"""What MODEL may be: a GGUF file, a Hugging Face directory, a `config.json`, or a known name. Shapes are enough."""

import json
from functools import cache
from importlib.resources import files
from pathlib import Path

import msgspec

from secondsource.core.errors import InputError
from secondsource.core.strict_toml import suggestion
from secondsource.engine.config import ModelConfig
from secondsource.engine.config_huggingface import config_huggingface
from secondsource.profiles.architecture import Architecture
from secondsource.profiles.models import one_model, parse_models, shipped_models

_HUGGING_FACE = {"llama": "LlamaForCausalLM", "qwen3": "Qwen3ForCausalLM", "gemma-3": "Gemma3ForCausalLM"}
_ROPE_BASES = {"llama-2": 1e4, "llama": 5e5, "smollm2": 1e5, "qwen3": 1e6, "gemma-3": 1e6}

_FILES = "a GGUF file, a Hugging Face directory or a config.json"


class NamedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model to port."""

    name: str
    config: ModelConfig
    architecture: Architecture  # what the profiles know such a shape by
    source: str


def find_model(text: str) -> NamedModel:
    """Return the model of a path or a known name; raises InputError saying what was expected."""
    path = Path(text)
    if path.is_dir():
        return _from_json(path / "config.json", path.resolve().name)
    if path.suffix == ".json":
        return _from_json(path, path.resolve().parent.name if path.stem == "config" else path.stem)
    if path.suffix == ".gguf" or path.is_file():
        return _from_gguf(path)
    if text.startswith((".", "/")):
        raise InputError(f"MODEL {text}: there is no such file or directory; {_FILES} was expected, or a known name")
    try:
        found = one_model(text, known_models())
    except InputError:
        nearest = suggestion(text, portable_names())
        raise InputError(f"MODEL {text}: no model of that name, and {_FILES} is taken too; {nearest}") from None
    return NamedModel(name=found.name, config=_config(found), architecture=found, source=found.source)


@cache
def known_models() -> tuple[Architecture, ...]:
    """Return the models that may be named."""
    text = (files("secondsource.port") / "data" / "models.toml").read_text("utf-8")
    return (*shipped_models(), *parse_models(text, "port/data/models.toml"))


def portable_names() -> tuple[str, ...]:
    """Return the names of the known models that the portable decoder can express."""
    return tuple(model.name for model in known_models() if _is_portable(model))


def _is_portable(model: Architecture) -> bool:
    return not (model.experts or model.latent or model.linear_layers or model.sparse_top_tokens) and bool(
        _family(model.name)
    )


def _family(name: str) -> str:
    name = "llama" if name.startswith("smollm2") else name
    return next((known for known in _HUGGING_FACE if name.startswith(known)), "")


def _config(model: Architecture) -> ModelConfig:
    if not _is_portable(model):
        raise InputError(
            f"{model.name}: the portable decoder expresses dense models of the Llama 3, Qwen 3 and Gemma 3 families; "
            f"known by name: {', '.join(portable_names())}"
        )
    base = next(rope for prefix, rope in _ROPE_BASES.items() if model.name.startswith(prefix))
    document: dict[str, object] = {
        "architectures": [_HUGGING_FACE[_family(model.name)]],
        "num_hidden_layers": model.layers,
        "hidden_size": model.hidden,
        "num_attention_heads": model.heads,
        "num_key_value_heads": model.kv_heads,
        "head_dim": model.head_dim,
        "intermediate_size": model.feed_forward,
        "vocab_size": model.vocabulary,
        "max_position_embeddings": model.context_tokens,
        "rope_theta": base,
        "tie_word_embeddings": model.tied_embeddings,
    }
    if model.window_layers:
        document |= {"sliding_window": model.window_tokens}
    return config_huggingface(document, model.name)


def _from_json(path: Path, name: str) -> NamedModel:
    try:
        document = json.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: no config.json that can be read: {error}") from None
    if not isinstance(document, dict):
        raise InputError(f"{path}: a JSON object was expected, as Hugging Face's config.json is one")
    config = config_huggingface(document, str(path))
    return NamedModel(name=name, config=config, architecture=architecture_of(name, config), source=str(path))


def _from_gguf(path: Path) -> NamedModel:
    from secondsource.engine.weights_gguf import GgufModel  # noqa: PLC0415 -- only a GGUF needs its reader

    config = GgufModel(path).config
    return NamedModel(name=path.stem, config=config, architecture=architecture_of(path.stem, config), source=str(path))


def architecture_of(name: str, config: ModelConfig) -> Architecture:
    """Return the profiles' view of a config's numbers."""
    return Architecture(
        name=name,
        source="the model's own config",
        as_of="",
        layers=config.layers,
        hidden=config.width,
        heads=config.heads,
        kv_heads=config.kv_heads,
        head_dim=config.head_width,
        feed_forward=config.feed_forward_width,
        vocabulary=config.vocabulary,
        tied_embeddings=config.tied_embeddings,
        context_tokens=config.context_tokens,
        window_tokens=config.window_tokens,
        window_layers=len(config.local_layers),
    )
