"""Files: read no further than expected, written whole, private where nobody else may look.

    read_bounded      a file's content, refused beyond a limit
    write_atomically  the old content or the new, whatever happens in between
    create_private    a new file of its owner's, never over another one
    append_private    to a file of its owner's

Not covered: who owns the folder. Whoever may write to it can replace any file in it.
"""

import os
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import BinaryIO

from securefed.errors import RunError, SecureFedError

OWNER_ONLY = 0o600


def read_bounded(
    path: Traversable,
    limit: int,
    *,
    error: type[SecureFedError] = RunError,
    hint: str | None = None,
) -> bytes:
    """A file's content, at most `limit` bytes.

    Raises:
        error: it cannot be read (with `hint`), or is larger.
    """
    try:
        with path.open("rb") as source:
            # One byte more than allowed: a file's size may change, and a device has none.
            content = source.read(limit + 1)
    except OSError as reason:
        raise error(f"cannot read {path}: {reason.strerror}", hint=hint) from None
    if len(content) > limit:
        raise error(f"{path} is larger than {limit:,} bytes, the most that is read")
    return content


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a crash leaves either the old content or the new.

    Raises:
        RunError: it cannot be written.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as out:
            out.write(content)
            _to_disk(out)
        partial.replace(path)
    except OSError as reason:
        raise RunError(f"cannot write {path}: {reason.strerror}") from None


def create_private(path: Path, content: bytes) -> None:
    """Make a file that only its owner can read.

    Raises:
        FileExistsError: there is something of that name; it is neither followed nor replaced.
        OSError: it cannot be written.
    """
    # Created with its mode, not chmod-ed afterwards: it is never readable by others.
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
    with os.fdopen(handle, "wb") as out:
        out.write(content)
        _to_disk(out)


def append_private(path: Path) -> BinaryIO:
    """A file opened for appending; one that is made is readable by its owner only."""
    return open(path, "ab", opener=lambda name, flags: os.open(name, flags, OWNER_ONLY))


def _to_disk(out: BinaryIO) -> None:
    out.flush()
    os.fsync(out.fileno())
