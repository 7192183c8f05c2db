"""A file of a run directory as one value: the type that writes it is the type that reads it.

Every value is checked against its type. Unknown keys are left out, since a later version may have
added them; a missing key, a wrong type or another schema is refused with the file's name.
"""

from pathlib import Path
from typing import ClassVar, Literal, Self, TypeVar

import msgspec

from securefed.errors import ConfigurationError, RunError
from securefed.files import read_bounded, write_atomically

Schema = Literal[1]
SCHEMA: Schema = 1
LARGEST_JSON = 64 * 2**20  # bytes
Shape = TypeVar("Shape")


class _Version(msgspec.Struct):
    schema: int


class JsonFile:
    """A struct that is a file of its own; each has a field `schema: Schema = SCHEMA`.

    The schema changes when a key changes its meaning or goes, not when one is added.

    Attributes:
        NAME: of the file, within its folder.
    """

    __slots__ = ()
    NAME: ClassVar[str]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The file in a folder.

        Raises:
            RunError: missing, too large, damaged, or of another schema.
        """
        return decode_file(folder / cls.NAME, cls)

    def write(self, folder: Path) -> None:
        """Write the file into a folder, whole or not at all."""
        write_atomically(folder / self.NAME, self.encode())

    def encode(self) -> bytes:
        """The file's content: JSON, indented, the schema first."""
        plain = msgspec.structs.asdict(self)  # type: ignore[arg-type]  # a struct, see above
        ordered = {"schema": plain.pop("schema"), **plain}
        return msgspec.json.format(msgspec.json.encode(ordered), indent=2) + b"\n"


def decode_file(path: Path, kind: type[Shape]) -> Shape:
    """A JSON file with a `schema`, as a value.

    Raises:
        RunError: missing, too large, damaged, or of another schema.
    """
    content = read_bounded(path, LARGEST_JSON)
    version = decode(content, _Version, str(path)).schema
    if version != SCHEMA:
        raise RunError(f"{path} has schema {version}, this version reads {SCHEMA}")
    return decode(content, kind, str(path))


def decode(content: bytes, kind: type[Shape], place: str) -> Shape:
    """JSON as a value; RunError that names the place where it is not one of that kind."""
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, ConfigurationError, RecursionError) as error:
        raise RunError(f"{place} is damaged: {error}") from None
