"""Files of lines that grow: a last line that a crash cut short counts as not written."""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from securefed.files import read_bounded
from securefed.record.json_file import Shape, decode


def read(path: Path, limit: int) -> list[bytes]:
    """The whole lines of a file of at most `limit` bytes; RunError if it cannot be read."""
    text = read_bounded(path, limit)
    return text[: text.rfind(b"\n") + 1].splitlines()


def read_as(path: Path, limit: int, kind: type[Shape]) -> tuple[Shape, ...]:
    """The whole lines of a file as values, in the order they were written; none without a file.

    Raises:
        RunError: damaged; the line is named.
    """
    if not path.exists():
        return ()
    numbered = enumerate(read(path, limit), start=1)
    return tuple(decode(content, kind, f"{path}, line {number}") for number, content in numbered)


def append(path: Path, lines: Iterable[bytes]) -> None:
    """Add lines, in the place of a last one that was cut short; on a full disk none of them.

    Raises:
        OSError: they cannot be written.
    """
    whole = _whole(path, path.stat().st_size) if path.exists() else 0
    try:
        with path.open("ab") as out:
            os.truncate(path, whole)
            out.write(b"".join(line + b"\n" for line in lines))
    except OSError:
        with suppress(OSError):
            os.truncate(path, whole)
        raise


def _whole(path: Path, size: int) -> int:
    """Bytes up to the end of the last whole line."""
    step = 1 << 16
    with path.open("rb") as content:
        for end in range(size, 0, -step):
            start = max(0, end - step)
            content.seek(start)
            found = content.read(end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
    return 0
