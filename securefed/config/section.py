"""What the settings of every section are made of."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

MOST_HOSPITALS = 10_000
Modality = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]{0,15}$")]


class Section(BaseModel):
    """A group of settings; frozen, so that what run.json records is what ran."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


@dataclass(frozen=True)
class OneOf:
    """A name from a registry, so that whatever is added to the registry is a setting too."""

    registry: Mapping[str, object]

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._require, handler(source))

    def _require(self, name: str) -> str:
        if name not in self.registry:
            *others, last = map(repr, self.registry)
            raise ValueError(f"Input should be {', '.join(others)} or {last}")
        return name
