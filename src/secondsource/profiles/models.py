"""Known models, by name or alias."""

import tomllib
from functools import cache
from importlib.resources import files

import msgspec

from secondsource.core.errors import InputError
from secondsource.core.strict_toml import suggestion
from secondsource.profiles.architecture import Architecture


class _Models(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    models: tuple[Architecture, ...]


def parse_models(text: str, origin: str) -> tuple[Architecture, ...]:
    """Return the models of a text of `[[models]]` tables; `InputError` names the file and the key."""
    try:
        return msgspec.convert(tomllib.loads(text), _Models).models
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise InputError(f"{origin}: {error}; see docs/profiles.md for the keys of a model") from None


@cache
def shipped_models() -> tuple[Architecture, ...]:
    """Return the models whose numbers ship with the package."""
    text = (files("secondsource.profiles") / "data" / "models.toml").read_text("utf-8")
    return parse_models(text, "profiles/data/models.toml")


def one_model(name: str, models: tuple[Architecture, ...] | None = None) -> Architecture:
    """Return the model of this name or alias, case apart; `InputError` suggests the nearest known one."""
    known = shipped_models() if models is None else models
    wanted = name.casefold()
    for model in known:
        if wanted in (each.casefold() for each in (model.name, *model.aliases)):
            return model
    nearest = suggestion(name, [each for model in known for each in (model.name, *model.aliases)])
    raise InputError(f'no numbers for the model "{name}"; {nearest}; or describe it as in docs/profiles.md')
