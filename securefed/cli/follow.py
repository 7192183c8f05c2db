"""Printing what happens in a folder while other processes work there."""

import json
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

import click

from securefed.engine.flare import places
from securefed.record import activity
from securefed.record.activity import Happening

POLL_S = 0.3
FINISHED = "finished: "  # how a hospital says that its run is over


class Following:
    """Prints lines of a folder's activity, from now on, until it is left.

    Attributes:
        finished: whether a run has finished meanwhile.
    """

    def __init__(self, folder: Path, as_json: bool) -> None:
        self._path, self._as_json = folder / places.ACTIVITY, as_json
        self._end = self._path.stat().st_size if self._path.exists() else 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self.finished = False
        self.tell = activity.teller(self._path)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._over.wait(POLL_S):
            self._print()
        self._print()

    def _print(self) -> None:
        for happening, end in list(activity.follow(self._path, self._end)):
            self._end = end
            self.finished |= happening.text.startswith(FINISHED)
            click.echo(self._line(happening))

    def _line(self, happening: Happening) -> str:
        if self._as_json:
            return json.dumps({"at": happening.at, "text": happening.text})
        return f"{happening.at[11:19]}  {happening.text}"
