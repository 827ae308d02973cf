"""The tokenizer of a Hugging Face directory, and what its other files say of it."""

import json
from pathlib import Path
from typing import Any

import tokenizers

from secondsource.core.errors import InputError
from secondsource.engine.tokenizer import Tokenizer


def tokenizer_huggingface(directory: Path, *, vocabulary: int) -> Tokenizer:
    """Return the tokenizer of `tokenizer.json`; `vocabulary` is the model's, which may have spare rows.

    Raises InputError when it is missing or cannot be read.
    """
    path = directory / "tokenizer.json"
    try:
        made = tokenizers.Tokenizer.from_str(path.read_text("utf-8"))
    except Exception as error:
        raise InputError(f"{path}: a tokenizer.json was expected: {error}") from error
    config = optional_json(directory / "tokenizer_config.json")
    beginning = special_text(config, "bos_token")
    probe = made.encode("", add_special_tokens=True).ids
    number = made.token_to_id(beginning) if beginning else None
    return Tokenizer(
        made,
        vocabulary=vocabulary,
        beginning_of_sequence=number,
        adds_beginning=number is not None and number in probe,
        ends=_ends(directory, made, config),
    )


def special_text(config: dict[str, Any], key: str) -> str:
    """Return a special token's text from `tokenizer_config.json`, where it is a text or an object; "" for none."""
    token = config.get(key)
    return str(token.get("content", "")) if isinstance(token, dict) else str(token or "")


def optional_json(path: Path) -> dict[str, Any]:
    """Return a JSON object; an empty one where there is no such file. Raises InputError for another content."""
    if not path.exists():
        return {}
    try:
        document = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: a JSON object was expected: {error}") from error
    if not isinstance(document, dict):
        raise InputError(f"{path}: a JSON object was expected")
    return document


def _ends(directory: Path, made: tokenizers.Tokenizer, config: dict[str, Any]) -> frozenset[int]:
    ends: set[int] = set()
    for name in ("generation_config.json", "config.json"):
        found = optional_json(directory / name).get("eos_token_id")
        ends.update(found if isinstance(found, list) else [found] if isinstance(found, int) else [])
    named = made.token_to_id(special_text(config, "eos_token"))
    return frozenset(ends if named is None else ends | {named})
