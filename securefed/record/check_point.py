"""checkpoint.json: which round to resume from; checkpoint-N.safetensors holds its parameters."""

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
    def parameters(finished: int | Literal["*"]) -> str:
        """The name of the file with the state after so many rounds; a pattern for any number."""
        return f"checkpoint-{finished}.safetensors"
