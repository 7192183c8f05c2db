"""Settings from a YAML file and the command line; each mistake is told with its key's path."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from securefed import settings_file
from securefed.config.settings import Settings
from securefed.errors import ConfigurationError

EVERY_KEY = "docs/configuration.md explains every key"


def load(path: Path | None, overrides: dict[str, Any]) -> Settings:
    """Read settings from a YAML file and lay the command line's values over them.

    Args:
        path: YAML file, or None for the defaults.
        overrides: dotted key -> value, e.g. {"privacy.epsilon": 4.0}.

    Raises:
        ConfigurationError: file unreadable, unknown key, wrong type, or a contradiction.
    """
    values: dict[str, Any] = settings_file.read(path) if path else {}
    for key, value in overrides.items():
        *sections, name = key.split(".")
        place = values
        for depth, section in enumerate(sections, start=1):
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise ConfigurationError(
                    f"{'.'.join(sections[:depth])} must be a section of keys, got {place!r}"
                    f"{_in(path)}",
                    hint=EVERY_KEY,
                )
        place[name] = value
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise _explain(error, path, overrides) from None


def _explain(
    error: ValidationError, path: Path | None, overrides: Mapping[str, Any]
) -> ConfigurationError:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    # A value that was typed is not the file's fault, and a contradiction may be between the two.
    place = "" if key in overrides else _in(path)
    if path and not key and overrides:
        place = f" ({path} and the command line together)"
    if first["type"] == "extra_forbidden":
        return ConfigurationError(
            f"unknown key {key}{place}", hint=f"known here: {', '.join(_siblings(first['loc']))}"
        )
    message = first["msg"].removeprefix("Value error, ")
    if not key:  # a contradiction names its key itself
        return ConfigurationError(message + place, hint=EVERY_KEY)
    got = first.get("input")
    return ConfigurationError(
        f"{key}: {message[:1].lower()}{message[1:]}, got {got!r}{place}",
        hint=EVERY_KEY,
    )


def _in(path: Path | None) -> str:
    return f" (in {path})" if path else ""


def _siblings(loc: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] = Settings
    for part in loc[:-1]:
        annotation = model.model_fields[str(part)].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            break
        model = annotation
    return list(model.model_fields)
