"""checkpoint.json: which round to resume from; checkpoint-N.safetensors holds its parameters."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

import msgspec

from securefed.record.json_file import SCHEMA, JsonFile, Schema


class CheckPoint(JsonFile, msgspec.Struct, frozen=True, kw_only=True):
    """The last round whose state is on disk, and the seconds that the run took so far."""

    NAME: ClassVar[str] = "checkpoint.json"
    schema: Schema = SCHEMA

    round: Annotated[int, msgspec.Meta(ge=0)]
    elapsed_s: float

    @staticmethod
    def round_of(path: Path) -> int:
        """After how many rounds the state in a file of such a name is."""
        return int("".join(filter(str.isdigit, path.name)))

    @staticmethod
    def parameters(finished: int | Literal["*"]) -> str:
        """The name of the file with the state after so many rounds; a pattern for any number."""
        return f"checkpoint-{finished}.safetensors"
