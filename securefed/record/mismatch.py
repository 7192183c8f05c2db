"""A place where the files of a run do not agree, or where one is missing."""

import msgspec


class Mismatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is wrong with one file of a run.

    Attributes:
        file: its path below the run directory; or `this program`, which reads it.
        told: what it says, against what it should say; "missing".
    """

    file: str
    told: str

    def __str__(self) -> str:
        return f"{self.file}: {self.told}"
