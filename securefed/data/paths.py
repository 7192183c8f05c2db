"""Files that a manifest may have meant: alike but for capitals, blanks and how letters are stored.

Windows and macOS do not tell capitals apart, and macOS stores an accent apart from its letter; a
manifest written there names files that Linux does not find. Nothing is used in place of what was
named: two files may be alike.
"""

import os
from pathlib import Path, PureWindowsPath

from securefed.data.names import folded


class Paths:
    """The names below a folder, each folder listed once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: dict[Path, dict[str, str]] = {}

    def like(self, text: str) -> str | None:
        """A file below the folder that is like a path which does not exist; None if there is none.

        Args:
            text: a relative path, as Linux or Windows writes it.
        """
        here = self._folder
        for part in PureWindowsPath(text).parts:
            name = self._inside(here).get(folded(part))
            if name is None:
                return None
            here /= name
        return here.relative_to(self._folder).as_posix() if here.is_file() else None

    def _inside(self, folder: Path) -> dict[str, str]:
        if folder not in self._names:
            try:
                names = sorted(os.listdir(folder))
            except OSError:
                names = []
            self._names[folder] = {folded(name): name for name in names}
        return self._names[folder]
