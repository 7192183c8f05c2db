"""Which settings are paths. One may name a person or a hospital's share: no page repeats it."""

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from pydantic import BaseModel

from securefed.config.settings import Settings


def _paths(section: type[BaseModel], above: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _paths(kind, f"{above}{name}.")
        elif Path in (kind, *get_args(kind)):
            yield f"{above}{name}"


PATHS = frozenset(_paths(Settings))
