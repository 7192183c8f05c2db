"""activity.jsonl: what happened in a folder, line by line, for the eyes of those who keep it.

Written by the processes that work there, followed by the command that started them. It can name
patients, files and paths, and never leaves.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from securefed.files import append_private


class Happening(msgspec.Struct, frozen=True):
    """One line: when, in UTC, and what."""

    at: str
    text: str


def teller(path: Path) -> Callable[[str], None]:
    """What writes lines to the file; several processes may."""

    def tell(text: str) -> None:
        line = Happening(datetime.now(UTC).isoformat(timespec="seconds"), text)
        with append_private(path) as out:
            out.write(msgspec.json.encode(line) + b"\n")

    return tell


def follow(path: Path, start: int) -> Iterator[tuple[Happening, int]]:
    """The whole lines behind `start` bytes that are there now, each with where it ends."""
    if not path.exists():
        return
    with path.open("rb") as content:
        content.seek(start)
        for line in content:
            if not line.endswith(b"\n"):
                return
            start += len(line)
            yield msgspec.json.decode(line, type=Happening), start
