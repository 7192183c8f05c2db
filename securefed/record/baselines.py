"""baselines.json: what the federation of a run is compared with."""

from statistics import fmean
from typing import ClassVar

import msgspec

from securefed.record.json_file import SCHEMA, JsonFile, Schema


class Baselines(JsonFile, msgspec.Struct, frozen=True, kw_only=True):
    """AUCs on held-out patients; None where a hospital's held-out patients are all of one label.

    Attributes:
        local: hospital -> AUC of the model it trained alone, on its own held-out patients.
        one_modality: modality -> AUC of a federation that has only that one.
    """

    NAME: ClassVar[str] = "baselines.json"
    schema: Schema = SCHEMA

    local: dict[str, float | None]
    one_modality: dict[str, float | None]

    @property
    def mean_local(self) -> float | None:
        """Mean over the hospitals that have one."""
        defined = [value for value in self.local.values() if value is not None]
        return fmean(defined) if defined else None
