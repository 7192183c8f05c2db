"""Every file below a folder, once.

Links to folders outside the tree are followed, each folder is read once, and a link that leads back
above the tree is named.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from securefed.data.names import visible
from securefed.data.skipped import Skipped
from securefed.data.table import Problem


def place_of(path: Path, root: Path | None = None) -> str:
    """A path for a message, relative to the tree; by its own name if no tree is given."""
    return visible(path.name if root is None else path.relative_to(root).as_posix())


def files_below(root: Path, problems: list[Problem], skipped: Skipped) -> Iterator[Path]:
    """The files of a tree in the order of their paths; what cannot be walked goes to the lists."""

    def unreadable(error: OSError) -> None:
        place = place_of(Path(error.filename), root)
        problems.append(Problem(place, f"cannot be opened ({error.strerror})"))

    above = {_identity(folder) for folder in (root, *root.resolve().parents)}
    read: set[tuple[int, int]] = set()
    for folder, names, files in os.walk(root, onerror=unreadable, followlinks=True):
        read.add(_identity(Path(folder)))
        for name in sorted(names):
            path = Path(folder) / name
            if path.is_symlink() and not _is_new(path, root, above, read, skipped):
                names.remove(name)
        names.sort()  # os.walk descends in this order
        yield from (Path(folder) / name for name in sorted(files))


def _is_new(
    link: Path,
    root: Path,
    above: set[tuple[int, int]],
    read: set[tuple[int, int]],
    skipped: Skipped,
) -> bool:
    """Whether a linked folder is still to be read; if not, why goes to `skipped`."""
    place = place_of(link, root)
    here = _identity(link)
    if here in above:
        skipped.add("link back to a folder above", place)
        return False
    if here in read or link.resolve().is_relative_to(root.resolve()):
        skipped.add("link to a folder that is read at its own place", place)
        return False
    read.add(here)  # before another link to it is met
    return True


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino
