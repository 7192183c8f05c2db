"""declared.json: what a hospital declares of its training set, noised once for the whole run.

A second draw of the noise would be a second release, so the file belongs to the run: it is written
before anything follows from it, and a run that has begun does not go on without it.
"""

from typing import Annotated, ClassVar

import msgspec

from securefed.record.json_file import SCHEMA, JsonFile, Schema

Positive = Annotated[int, msgspec.Meta(ge=1)]


class Declared(JsonFile, msgspec.Struct, frozen=True, kw_only=True):
    """A hospital's noised numbers.

    Attributes:
        run: whose they are.
        patients: the FedAvg weight.
        records: what sampling follows from: patients, or images where these are the records.
    """

    NAME: ClassVar[str] = "declared.json"
    schema: Schema = SCHEMA

    run: str
    patients: Positive
    records: Positive
