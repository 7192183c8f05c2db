"""hospitals/NAME/agreement.json: what a hospital agreed to when it was opened for a run.

A hospital is opened from a job description that others hand to it, again after each stop. What it
agreed to the first time stands in its own folder, so that a run is not continued, audited or
reported under terms that it was not trained under: no other settings, no other patients, no other
noise. No patient's data is in the file.
"""

from typing import Any, ClassVar

import msgspec

from securefed.config import PATHS
from securefed.privacy.accounting import Event
from securefed.record.json_file import SCHEMA, JsonFile, Schema
from securefed.settings_file import dotted


class Agreement(JsonFile, msgspec.Struct, frozen=True, kw_only=True):
    """The content of agreement.json.

    Attributes:
        run: the run's identity.
        settings: all of them, in the form of the settings file.
        records: what training draws from: patients, or slices where these are the privacy unit.
        declared_patients, declared_records: what the hospital said of its training set; the exact
            numbers where nothing is declared.
        parameters: how many are shared.
        event: what one round costs; None where nothing is promised.
        canaries_sha256: of canaries.json, where this hospital holds the run's canaries.
    """

    NAME: ClassVar[str] = "agreement.json"
    schema: Schema = SCHEMA

    run: str
    hospital: str
    settings: dict[str, Any]
    records: int
    declared_patients: int
    declared_records: int
    parameters: int
    event: Event | None
    canaries_sha256: str | None

    def difference(self, other: "Agreement") -> str | None:
        """The first term of another agreement that is not this one's, in words; None: the same."""
        for name in self.__struct_fields__:
            if name != "settings" and getattr(self, name) != getattr(other, name):
                return f"{name} is {getattr(other, name)}, not {getattr(self, name)}"
        return differing_setting(self.settings, other.settings)


def differing_setting(agreed: dict[str, Any], other: dict[str, Any]) -> str | None:
    """The first setting that is not as agreed, in words; None where they are the same.

    The words may stand on a page that travels, so a path is not in them.
    """
    before, now = dotted(agreed), dotted(other)
    for key in [*before, *now]:
        if before.get(key) != now.get(key):
            if key in PATHS:
                return f"{key} is another path"
            return f"{key} is {_text(now.get(key))}, not {_text(before.get(key))}"
    return None


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()
