"""inventory.json: every file of a finished run by its SHA-256, so that a changed byte has a name.

Written when all else is, but for summary.json, with which a run is finished. Ledgers are not in it,
since they outlive the run, nor what is added later (audits, reports, logs). It protects from
accidents and careless edits: whoever can change a file can change this one too, and then the checks
of `securefed.evidence` are what is left.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import msgspec

from securefed.errors import RunError
from securefed.files import is_lock
from securefed.privacy import ledger_file
from securefed.record.json_file import SCHEMA, JsonFile, Schema

LOG = "hospitals.log"


class InputFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file by its path below a directory."""

    path: str
    size: int
    sha256: str


class Inventory(JsonFile, msgspec.Struct, frozen=True, kw_only=True):
    """The content of inventory.json."""

    NAME: ClassVar[str] = "inventory.json"
    schema: Schema = SCHEMA

    files: tuple[InputFile, ...]

    @classmethod
    def of(cls, directory: Path, last: Mapping[str, bytes]) -> "Inventory":
        """The inventory of a run that has written everything but the files in `last`."""
        kept = [each for each in files_below(directory) if not _lives_on(each.path)]
        kept += [
            InputFile(path=name, size=len(content), sha256=hashlib.sha256(content).hexdigest())
            for name, content in last.items()
        ]
        return cls(files=tuple(kept))


def _lives_on(place: str) -> bool:
    name = place.rsplit("/", 1)[-1]
    return name.startswith(ledger_file.NAME) or place in (LOG, Inventory.NAME)


def files_below(directory: Path) -> Iterator[InputFile]:
    """Every file below a directory but locks, hashed, in the order of their paths.

    Raises:
        RunError: a symbolic link, whose target is not below it, or an unreadable file.
    """
    places = []
    for folder, folders, names in os.walk(directory):
        for name in sorted([*folders, *names]):
            path = Path(folder) / name
            if path.is_symlink():
                raise RunError(
                    f"{path} is a symbolic link; only plain files can be listed",
                    hint="copy what it points to into the directory",
                )
        files = [Path(folder) / name for name in names if not is_lock(name)]
        places += [path.relative_to(directory).as_posix() for path in files]
    for place in sorted(places):
        path = directory / place
        yield InputFile(path=place, size=path.stat().st_size, sha256=digest(path))


def digest(path: Path) -> str:
    """SHA-256 of a file, hex; RunError if it cannot be read."""
    try:
        with path.open("rb") as source:
            return hashlib.file_digest(source, "sha256").hexdigest()
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from None
